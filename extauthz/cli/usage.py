"""`extauthz usage`: what an organization has used on a day, and what is left."""

from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli import options, output, parse
from extauthz.cli.session import manage, read_settings

if TYPE_CHECKING:
    from extauthz.core.usage_report import DayUsage
    from extauthz.management import Management


def usage(
    organization: options.Organization,
    day: Annotated[
        str | None, typer.Option("--day", metavar="YYYY-MM-DD", help="A day of its calendar; default: today.")
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Show what an organization and its keys used on a day, and what its quotas leave it now."""
    asked = parse.day(day)

    async def work(office: "Management") -> "tuple[DayUsage, dict[str, str], str]":
        used = await office.usage.day(organization, asked, limit=None)
        name = "" if as_json else (await office.tenants.show_organization(used.organization_id)).name
        keys = [] if as_json else await office.keys.list_of(used.organization_id)
        return used, {key.id: key.name for key in keys}, name

    used, names, name = manage(read_settings(config), work)
    if as_json:
        output.print_json(used.to_json())
    else:
        _print(used, names, name, left=asked is None)
    if not used.complete:
        output.complain("warning: without what the last seconds have brought: Redis is away")


def _print(used: "DayUsage", names: dict[str, str], organization: str, *, left: bool) -> None:
    """The keys that used most come first. What is `left` now says nothing of a day that somebody looks up."""
    details = {
        "organization": f"{organization} ({used.organization_id})",
        "day": used.day.isoformat(),
        **{name.replace("_", " "): str(count) for name, count in used.tally._asdict().items()},
    }
    if left:
        for label, tokens in (("left today", used.remaining["daily"]), ("left this month", used.remaining["monthly"])):
            details[label] = "no quota" if tokens is None else str(tokens)
    output.print_details(details)
    if not used.by_key.items:
        output.hint("No key of it was used on that day.")
        return
    rows = [
        (key_id, names.get(key_id) or "-", *map(str, tally))
        for key_id, tally in sorted(used.by_key.items, key=lambda item: -item[1].cost)
    ]
    output.print_line("")
    output.print_table(("key", "name", "allowed", "cost", "rate limited", "over quota"), rows)
