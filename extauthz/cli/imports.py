"""`extauthz keys import`: keys that another system issued, one from standard input or many from a CSV file."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from extauthz.cli import bulk, key_input, key_texts, options, parse
from extauthz.cli.session import read_settings
from extauthz.core.errors import InvalidInput
from extauthz.core.management import KeyTerms


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
        raise InvalidInput(key_input.NO_ARGUMENT)
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
    key = _given_key()
    details, its = key_texts.manage_key(
        settings, lambda operator: operator.keys.import_key(organization, key, terms), lambda imported: imported
    )
    key_texts.print_key(details, its, as_json=as_json)


def _given_key() -> str:
    if sys.stdin.isatty():
        key = key_input.typed("Key: ")
    else:
        key = key_input.piped(sys.stdin.fileno(), instead="many keys are imported with --csv FILE")
    if not key:
        raise InvalidInput("there is no key on standard input: give one line with the key, or many with --csv FILE")
    return key
