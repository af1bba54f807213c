"""`extauthz keys import`: keys that another system issued, one from standard input or many from a CSV file."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from extauthz.cli import bulk, key_texts, options, parse
from extauthz.cli.session import read_settings
from extauthz.core.errors import InvalidInput
from extauthz.core.records import KeyTerms

KEY_MAX = 8192  # characters; a longer one fits into no request


def import_keys(
    context: typer.Context,
    organization: options.Organization,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Many keys: a CSV file with a header; - is standard input."),
    ] = None,
    name: options.Name = None,
    permission: options.Permission = None,
    expires_in: options.ExpiresIn = None,
    expires_at: options.ExpiresAt = None,
    metadata: options.Metadata = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Import a key that another system issued, from standard input, or many with --csv. Only digests are stored."""
    if context.args:
        raise InvalidInput("a key is no argument, where others on this machine can read it: give it on standard input")
    terms = KeyTerms(
        name=name or "",
        permissions=parse.permissions(permission or ()),
        expires_at=parse.expiry(expires_in, expires_at, datetime.now(UTC)),
        metadata=parse.metadata(metadata or ()),
    )
    settings = read_settings(config)
    if csv is not None:
        bulk.import_file(
            csv, organization, terms, permissions_given=bool(permission), settings=settings, as_json=as_json
        )
        return
    key = _typed_key() if sys.stdin.isatty() else _piped_key(sys.stdin.fileno())
    details, its = key_texts.manage_key(
        settings, lambda office: office.keys.import_key(organization, key, terms), lambda imported: imported
    )
    key_texts.print_key(details, its, as_json=as_json)


def _typed_key() -> str:
    from getpass import getpass

    try:
        return _checked(getpass("Key: "))
    except EOFError:
        return _checked("")


def _piped_key(source: int) -> str:
    """The one line of a pipe, which may stay open after it; `source` is its file descriptor."""
    read = b""
    try:
        while b"\n" not in read and len(read) <= KEY_MAX and (more := os.read(source, KEY_MAX)):
            read += more
    except OSError as error:
        raise InvalidInput(f"standard input cannot be read: {error.strerror}") from None
    line, _, rest = read.partition(b"\n")
    if rest.strip():
        raise InvalidInput("standard input has more than one line; many keys are imported with --csv FILE")
    return _checked(line.decode(errors="replace"))


def _checked(text: str) -> str:
    key = text.strip()
    if not key:
        raise InvalidInput("there is no key on standard input: give one line with the key, or many with --csv FILE")
    if len(key) > KEY_MAX:
        raise InvalidInput(f"what is on standard input is no key: it is longer than {KEY_MAX} characters")
    return key
