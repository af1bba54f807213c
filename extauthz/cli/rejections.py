"""`extauthz rejections`: why requests were refused."""

from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli import options, output, parse
from extauthz.cli.session import manage, read_settings

if TYPE_CHECKING:
    from extauthz.core.rejections import Rejection, RejectionFilter
    from extauthz.management import Management

PAGE = 200  # rows that are read at once


def rejections(
    organization: Annotated[
        str | None,
        typer.Argument(
            metavar="[ORG]",
            help="An organization, by its id or its name. Without it: refusals of clients that none is known of.",
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="Only from a time on: 2030-01-31T12:00:00Z, or 24h ago.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="Only what began before a time.")] = None,
    key_id: Annotated[
        str | None, typer.Option("--key", metavar="ID", help="Only of a key, by its id.", callback=options.maybe_key_id)
    ] = None,
    decision: Annotated[
        str | None, typer.Option("--decision", metavar="D", help="Only of a kind, as permission_denied.")
    ] = None,
    route: Annotated[
        str | None, typer.Option("--route", metavar="PATH", help="Only of a route, by its path in the configuration.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many rows.", min=1, max=100_000)] = 50,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List refusals in spans of five minutes, newest first. `--json` has the last requests of each."""
    from datetime import UTC, datetime

    from extauthz.core.rejections import RejectionFilter

    now = datetime.now(UTC)
    only = RejectionFilter(parse.since(since, now), parse.since(until, now, option="--until"), key_id, decision, route)

    async def work(office: "Management") -> "list[Rejection]":
        return await _newest(office, organization, only, limit)

    rows = manage(read_settings(config), work)
    if as_json:
        output.print_json([row.to_json() for row in rows])
    elif not rows:
        output.hint("Nothing was refused, or nothing that fits; refusals are there within 10 seconds.")
    else:
        headers = ("from", "decision", "route", "key" if organization else "address", "count", "last request")
        output.print_table(headers, [_cells(row) for row in rows])


async def _newest(
    office: "Management", organization: str | None, only: "RejectionFilter", limit: int
) -> "list[Rejection]":
    rows: list[Rejection] = []
    cursor: str | None = None
    while len(rows) < limit:
        page = await office.rejections.page(organization, only, limit=min(PAGE, limit - len(rows)), cursor=cursor)
        rows += page.items
        cursor = page.next
        if cursor is None:
            break
    return rows


def _cells(row: "Rejection") -> tuple[str, ...]:
    decision = f"{row.decision} ({row.reason})" if row.reason else row.decision
    owner = row.api_key_name or row.api_key_id or row.address or ""
    last = row.samples[0]["request_id"] if row.samples else ""
    return output.time_text(row.since), decision, row.route or "none", owner, str(row.count), last
