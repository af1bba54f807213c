"""`extauthz migrate`: the schema in PostgreSQL."""

from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli import options, output
from extauthz.cli.session import interruptible, read_settings, run
from extauthz.core.errors import InvalidInput
from extauthz.core.masking import shown

if TYPE_CHECKING:
    from extauthz.backends.postgres.schema import SchemaStatus


def migrate(
    status: Annotated[
        bool, typer.Option("--status", metavar="", help="Only look: the exit status is 0 when up to date, else 1.")
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", metavar="", help="Print the SQL that would run, one transaction, and run nothing.")
    ] = False,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="VERSION", help="With --sql: begin there (or at `nothing`), ask no database."),
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Bring the schema up to date. Needs no setting but DATABASE_URL."""
    from extauthz.backends.postgres import migrate as migrations
    from extauthz.backends.postgres import schema

    if begin is not None and not sql:
        raise InvalidInput("--from must be given together with --sql")
    if sql and (status or as_json):
        raise InvalidInput("--sql must be given without --status and --json")
    if begin is not None:
        typer.echo(migrations.script(_version(begin)), nl=False)
        return
    settings = read_settings(config, needs=["DATABASE_URL"])
    dsn = settings.database_url.get_secret_value()
    before = run(schema.status(dsn), settings, doing="Waiting for PostgreSQL")
    if status:
        _print_status(before, as_json)
        if not before.current:
            raise schema.SchemaUnknown(before.found)
        return
    if sql:
        if before.found is not None and before.found > schema.KNOWN:
            raise schema.SchemaUnknown(before.found)
        typer.echo(migrations.script(before.found), nl=False)
        return
    interruptible()
    after = run(migrations.upgrade(dsn), settings, doing="Bringing the schema up to date")
    if as_json:
        output.print_json({"from": before.found, "to": after.found})
    elif before.current:
        output.print_line(f"The schema is up to date: {after.found}.")
    else:
        output.print_line(f"The schema went from {before.found or 'nothing'} to {after.found}.")


def _version(text: str) -> str | None:
    from extauthz.backends.postgres.migrate import migrations

    known = ["nothing", *sorted({migration.version for migration in migrations()})]
    if text not in known:
        raise InvalidInput(f"--from must be one of {', '.join(known)} (got {shown(text)})")
    return None if text == "nothing" else text


def _print_status(status: "SchemaStatus", as_json: bool) -> None:
    if as_json:
        output.print_json({"found": status.found, "known": status.known, "current": status.current})
    else:
        output.print_details({"found": status.found or "nothing", "known": status.known})
