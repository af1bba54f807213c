"""`extauthz migrate`: the schema in PostgreSQL."""

from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli import options, output
from extauthz.cli.session import interruptible, read_settings, run

if TYPE_CHECKING:
    from extauthz.backends.postgres.schema import SchemaStatus


def migrate(
    status: Annotated[
        bool, typer.Option("--status", metavar="", help="Only look: the exit status is 0 when up to date, else 1.")
    ] = False,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Bring the schema up to date. Needs no setting but DATABASE_URL."""
    from extauthz.backends.postgres import schema

    settings = read_settings(config, needs=["DATABASE_URL"])
    dsn = settings.database_url.get_secret_value()
    before = run(schema.status(dsn), settings, doing="Waiting for PostgreSQL")
    if status:
        _print_status(before, as_json)
        if not before.current:
            raise schema.SchemaUnknown(before.found)
        return
    interruptible()
    after = run(schema.upgrade(dsn), settings, doing="Bringing the schema up to date")
    if as_json:
        output.print_json({"from": before.found, "to": after.found})
    elif before.current:
        output.print_line(f"The schema is up to date: {after.found}.")
    else:
        output.print_line(f"The schema went from {before.found or 'nothing'} to {after.found}.")


def _print_status(status: "SchemaStatus", as_json: bool) -> None:
    if as_json:
        output.print_json({"found": status.found, "known": status.known, "current": status.current})
    else:
        output.print_details({"found": status.found or "nothing", "known": status.known})
