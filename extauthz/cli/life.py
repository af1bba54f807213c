"""`extauthz keys`, the life of a key: disable, enable, rotate, revoke, and what depends on a pepper."""

from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated

import typer

from extauthz.cli import key_texts, options, output, parse
from extauthz.cli.session import manage, read_settings, warn_if_late
from extauthz.core.errors import Conflict, InvalidInput, LastUsableKey


def disable(key_id: options.KeyId, config: options.Config = None, as_json: options.Json = False) -> None:
    """Refuse a key until it is enabled again."""
    settings = read_settings(config)
    (key, told), its = key_texts.manage_key(settings, lambda operator: operator.keys.disable(key_id), itemgetter(0))
    key_texts.print_key(key, its, as_json=as_json)
    warn_if_late(told, settings, cache="API_KEY_CACHE_TTL")


def enable(key_id: options.KeyId, config: options.Config = None, as_json: options.Json = False) -> None:
    """Take a key again that was disabled."""
    settings = read_settings(config)
    (key, told), its = key_texts.manage_key(settings, lambda operator: operator.keys.enable(key_id), itemgetter(0))
    key_texts.print_key(key, its, as_json=as_json)
    warn_if_late(told, settings, cache="API_KEY_CACHE_TTL")


def rotate(
    key_id: options.KeyId,
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="How long the old key still works: 0s, 15m, 1h, 30d.")
    ] = "1h",
    expires_in: options.ExpiresIn = None,
    expires_at: options.ExpiresAt = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Replace a key by a new one of the same terms, and show that, this once; the old one ends with the grace period.

    Unless told, the new key lives as long as the old one was given.
    """
    until = parse.expiry(expires_in, expires_at, datetime.now(UTC))
    length = parse.grace(grace)
    settings = read_settings(config)
    rotated, its = key_texts.manage_key(
        settings, lambda operator: operator.keys.rotate(key_id, grace=length, expires_at=until), lambda made: made.key
    )
    if as_json:
        new = key_texts.to_json(rotated.key)
        output.print_json({**new, "key": rotated.secret, "old": key_texts.to_json(rotated.old)})
    else:
        key_texts.print_secret(rotated.key, rotated.secret, its, settings=settings)
        output.print_line(f"The old key {rotated.old.id} works until {output.time_text(rotated.old.expires_at)}.")
    warn_if_late(rotated.told, settings, cache="API_KEY_CACHE_TTL")


def revoke(
    key_id: options.KeyId,
    last: Annotated[
        bool, typer.Option("--last", metavar="", help="Even the last usable key of its organization.")
    ] = False,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """End a key for good."""
    settings = read_settings(config)
    try:
        (key, told), its = key_texts.manage_key(
            settings, lambda operator: operator.keys.revoke(key_id, last=last), itemgetter(0)
        )
    except LastUsableKey as error:
        raise Conflict(f"{error}; to revoke it all the same: --last") from error
    key_texts.print_key(key, its, as_json=as_json)
    warn_if_late(told, settings, cache="API_KEY_CACHE_TTL")


def repepper(
    report: Annotated[
        bool, typer.Option("--report", metavar="", help="Say how many keys depend on each pepper; changes nothing.")
    ] = False,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """See which peppers are still needed. A key moves to the pepper that signs when it is rotated."""
    if not report:
        raise InvalidInput(
            "only a report can be had: give --report; a key moves to the pepper that signs by keys rotate"
        )
    uses = manage(read_settings(config), lambda operator: operator.keys.peppers())
    if as_json:
        output.print_json([use.to_json() for use in uses])
        return
    rows = [
        (
            use.id,
            "signs" if use.signs else "verifies" if use.configured else "missing",
            str(use.keys),
            str(use.usable),
        )
        for use in uses
    ]
    output.print_table(("pepper", "role", "keys", "usable"), rows)
