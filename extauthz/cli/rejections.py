"""`extauthz rejections`: why requests were refused."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli import options, output, parse
from extauthz.cli.session import manage, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extauthz.app.management import Management
    from extauthz.core.rejections import Rejection, RejectionFilter

PAGE = 200  # rows that are read at once


def rejections(
    organization: Annotated[
        str | None,
        typer.Argument(
            metavar="[ORG]",
            help="An organization, by its id or its name. Without it: refusals whose organization is not known.",
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
    requests: Annotated[
        bool, typer.Option("--requests", help="Show the last requests of each, by which the proxy's log finds them.")
    ] = False,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List refusals in spans of five minutes, newest first; `--requests` and `--json` have the last requests."""
    from extauthz.core.rejections import RejectionFilter

    now = datetime.now(UTC)
    only = RejectionFilter(parse.since(since, now), parse.since(until, now, option="--until"), key_id, decision, route)

    async def work(operator: "Management") -> "list[Rejection]":
        return await _newest(operator, organization, only, limit)

    rows = manage(read_settings(config), work)
    if as_json:
        output.print_json([row.to_json() for row in rows])
    elif not rows:
        output.hint("Nothing was refused, or nothing that fits; refusals are there within 10 seconds.")
    elif requests:
        headers = ("at", "decision", "method", "path", "request id")
        newest_first = sorted((cells for row in rows for cells in _requests(row)), reverse=True)
        output.print_table(headers, newest_first, folds=headers.index("path"))
    else:
        headers = ("from", "count", "decision", "route", "key" if organization else "address")
        output.print_table(headers, [_cells(row) for row in rows], folds=headers.index("route"))


async def _newest(
    operator: "Management", organization: str | None, only: "RejectionFilter", limit: int
) -> "list[Rejection]":
    rows: list[Rejection] = []
    cursor: str | None = None
    while len(rows) < limit:
        page = await operator.rejections.page(organization, only, limit=min(PAGE, limit - len(rows)), cursor=cursor)
        rows += page.items
        cursor = page.next
        if cursor is None:
            break
    rows.sort(key=lambda row: (row.since, row.count), reverse=True)
    return rows


def _cells(row: "Rejection") -> tuple[str, ...]:
    decision = f"{row.decision} ({row.reason})" if row.reason else row.decision
    owner = row.api_key_name or row.api_key_id or row.address or ""
    return f"{row.since.astimezone(UTC):%Y-%m-%dT%H:%MZ}", str(row.count), decision, row.route or "none", owner


def _requests(row: "Rejection") -> "Iterator[tuple[str, ...]]":
    for sample in row.samples:
        at = output.time_text(datetime.fromisoformat(sample["at"]))
        yield at, row.decision, sample["method"], sample["path"], sample["request_id"]
