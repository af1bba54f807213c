"""`extauthz audit`: changes of plans, organizations and keys."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli import options, output, parse
from extauthz.cli.session import manage, read_settings

if TYPE_CHECKING:
    from extauthz.app.management import Management
    from extauthz.core.management import AuditEntry, AuditFilter

PAGE = 200  # entries that are read at once

_NOT_SAID_TWICE = ("id", "created_at", "organization_id")


def audit(
    organization: Annotated[
        str | None, typer.Option("--org", metavar="ORG", help="Only of an organization, by its id or its name.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="P", help="Only of a plan, by its id or its name.")
    ] = None,
    key_id: Annotated[
        str | None, typer.Option("--key", metavar="ID", help="Only of a key, by its id.", callback=options.maybe_key_id)
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="WHO", help="Only by an actor: token:ops, or ops alone.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="Only from a time on: 2030-01-31T12:00:00Z, or 24h ago.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.", min=1, max=100_000)] = 50,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List changes with their actor and time, newest first."""
    from datetime import UTC, datetime

    from extauthz.core.management import AuditFilter

    only = AuditFilter(plan, key_id, by, parse.since(since, datetime.now(UTC)))

    async def work(operator: "Management") -> "list[AuditEntry]":
        return await _newest(operator, organization, only, limit)

    entries = manage(read_settings(config), work)
    if as_json:
        output.print_json([entry.to_json() for entry in entries])
    elif not entries:
        everything = organization is None and only == AuditFilter()
        output.hint("Nothing was changed yet." if everything else "No change fits these filters.")
    else:
        rows = [
            (output.time_text(entry.at), entry.actor, entry.action, _subject(entry), _changes(entry))
            for entry in entries
        ]
        output.print_table(("at", "by", "action", "of", "changes"), rows)


async def _newest(
    operator: "Management", organization: str | None, only: "AuditFilter", limit: int
) -> "list[AuditEntry]":
    entries: list[AuditEntry] = []
    cursor: str | None = None
    while len(entries) < limit:
        page = await operator.audit.page(organization, only, limit=min(PAGE, limit - len(entries)), cursor=cursor)
        entries += page.items
        cursor = page.next
        if cursor is None:
            break
    return entries


def _subject(entry: "AuditEntry") -> str:
    """What was changed: a plan or an organization by its name, a key by its id and its name."""
    if entry.kind == "api_key":
        return f"{entry.subject_id} ({entry.subject_name})" if entry.subject_name else entry.subject_id
    return entry.subject_name or entry.subject_id


def _changes(entry: "AuditEntry") -> str:
    """What was before and after, field by field; of something new or gone what it is or was."""
    fields = sorted(entry.diff.items())
    if "id" in entry.diff:
        said = [
            f"{field}: {_text(after if before is None else before)}"
            for field, (before, after) in fields
            if field not in _NOT_SAID_TWICE
        ]
    else:
        said = [f"{field}: {_text(before)} -> {_text(after)}" for field, (before, after) in fields]
    return ", ".join([*said, f"because: {entry.reason}"] if entry.reason else said)


def _text(value: object) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, ensure_ascii=False)
