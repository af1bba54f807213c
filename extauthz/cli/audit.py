"""`extauthz audit`: who changed what."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli import options, output
from extauthz.cli.session import manage, read_settings

if TYPE_CHECKING:
    from extauthz.core.records import AuditEntry
    from extauthz.management import Management

PAGE = 200  # entries that are read at once

_NOT_SAID_TWICE = ("id", "created_at", "organization_id")


def audit(
    organization: Annotated[
        str | None, typer.Option("--org", metavar="ORG", help="Only of an organization, by its id or its name.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.", min=1, max=100_000)] = 50,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List what was changed, by whom and when, newest first."""

    async def work(office: "Management") -> "list[AuditEntry]":
        return await _newest(office, organization, limit)

    entries = manage(read_settings(config), work)
    if as_json:
        output.print_json([entry.to_json() for entry in entries])
    elif not entries:
        output.hint("Nothing was changed yet.")
    else:
        rows = [
            (output.time_text(entry.at), entry.actor, entry.action, entry.subject_id, _changes(entry))
            for entry in entries
        ]
        output.print_table(("at", "by", "action", "id", "changes"), rows)


async def _newest(office: "Management", organization: str | None, limit: int) -> "list[AuditEntry]":
    entries: list[AuditEntry] = []
    cursor: str | None = None
    while len(entries) < limit:
        page = await office.audit.page(organization, limit=min(PAGE, limit - len(entries)), cursor=cursor)
        entries += page.items
        cursor = page.next
        if cursor is None:
            break
    return entries


def _changes(entry: "AuditEntry") -> str:
    """What was before and after, field by field; of something new or gone what it is or was."""
    if "id" not in entry.diff:
        return ", ".join(
            f"{field}: {_text(before)} -> {_text(after)}" for field, (before, after) in sorted(entry.diff.items())
        )
    return ", ".join(
        f"{field}: {_text(after if before is None else before)}"
        for field, (before, after) in sorted(entry.diff.items())
        if field not in _NOT_SAID_TWICE
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, ensure_ascii=False)
