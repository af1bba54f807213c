"""`extauthz usage`: what an organization has used on a day or in a range of days, and what is left."""

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from extauthz.cli import options, output, parse
from extauthz.cli.session import manage, read_settings
from extauthz.core.limit_kinds import QUOTAS

if TYPE_CHECKING:
    from extauthz.app.management import Management
    from extauthz.core.usage_range import By
    from extauthz.core.usage_report import Usage, UsageRow

_FIGURES = ("allowed", "cost", "rate limited", "over quota")


def usage(
    organization: options.Organization,
    day: Annotated[
        str | None, typer.Option("--day", metavar="YYYY-MM-DD", help="A day of its calendar; default: today.")
    ] = None,
    month: Annotated[
        str | None, typer.Option("--month", metavar="YYYY-MM", help="A month of its calendar, from its anchor on.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="The first of several days.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="The last of them; default: today.")
    ] = None,
    by: Annotated[
        Literal["day", "month", "key"], typer.Option("--by", help="A row for each day, month or key.")
    ] = "key",
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Show what an organization used on a day, in a month or from one day to another, and what its quotas leave it now.

    Days and months are those of its own calendar.
    """
    from extauthz.core.usage_range import UsageRange

    days = UsageRange(
        day=parse.day(day),
        month=parse.month(month),
        from_=parse.day(from_, option="--from"),
        to=parse.day(to, option="--to"),
    )

    async def work(operator: "Management") -> "tuple[Usage, str]":
        used = await operator.usage.report(organization, days, by=by, limit=None)
        name = "" if as_json else (await operator.tenants.show_organization(used.organization_id)).name
        return used, name

    used, name = manage(read_settings(config), work)
    if as_json:
        output.print_json(used.to_json())
    else:
        _print(used, name)
    if not used.complete:
        output.complain("warning: usage of the last seconds is missing, because Redis is away")


def _print(used: "Usage", organization: str) -> None:
    """Says what is left where today is among the days: of the past it says nothing."""
    first, last = used.period
    days = {"day": str(first)} if first == last else {"from": str(first), "to": str(last)}
    details = {
        "organization": f"{organization} ({used.organization_id})",
        **days,
        **dict(zip(_FIGURES, map(str, used.tally), strict=True)),
    }
    if last == used.today:
        for quota in QUOTAS:
            tokens = used.remaining[quota.name]
            details[f"left {quota.now}"] = "no quota" if tokens is None else str(tokens)
    output.print_details(details)
    if not used.rows.items:
        output.hint(f"No key of it was used {'on that day' if first == last else 'in that time'}.")
        return
    headers, rows = _table(used.rows.items, used.by)
    output.print_line("")
    output.print_table((*headers, *_FIGURES), rows)


def _table(rows: "Sequence[UsageRow]", by: "By") -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The first headers, and all cells; the keys that used most come first."""
    if by == "key":
        names = Counter(row.key_name for row in rows)
        most_first = sorted(rows, key=attrgetter("tally.cost"), reverse=True)
        return ("key",), [(_key(row, names), *map(str, row.tally)) for row in most_first]
    if by == "day":
        return ("day",), [(str(row.period.first), *map(str, row.tally)) for row in rows]
    return ("from", "to"), [(*map(str, row.period), *map(str, row.tally)) for row in rows]


def _key(row: "UsageRow", names: "Counter[str | None]") -> str:
    """The name of a key, with the beginning of its id where another has the same name; its id where it has no name."""
    id_ = row.key_id or ""
    if not row.key_name:
        return id_
    return row.key_name if names[row.key_name] == 1 else f"{row.key_name} ({id_[:8]})"
