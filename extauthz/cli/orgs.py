"""`extauthz orgs`: organizations, each with a plan and perhaps limits of its own."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from extauthz.cli import credits as grants
from extauthz.cli import options, output, parse
from extauthz.cli.plans import as_options, limit_texts
from extauthz.cli.session import manage, read_settings, warn_if_late, warn_if_too_small
from extauthz.core.calendar import UTC_CALENDAR
from extauthz.core.errors import InvalidInput
from extauthz.core.management import Organization, Plan
from extauthz.core.tenants import ENFORCE
from extauthz.service.manage.organizations import DEFAULT_PLAN

if TYPE_CHECKING:
    from extauthz.app.management import Management
    from extauthz.config import Settings

app = typer.Typer(help="Organizations, each with its plan and limits.")

# By option: the attribute that it sets, and what a new organization has.
_DEFAULTS = {"limits": ("limits_mode", ENFORCE), "timezone": ("timezone", "UTC"), "anchor": ("anchor", 1)}
_PLAN = typer.Option("--plan", metavar="P", help="The name of its plan.")
_TIMEZONE = typer.Option("--timezone", metavar="TZ", help="Where its days begin: Europe/Berlin.")
_ANCHOR = typer.Option("--anchor", metavar="DAY", help="The day on which its months begin, 1 to 31.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.", callback=parse.name)],
    plan: Annotated[str, _PLAN] = DEFAULT_PLAN,
    timezone: Annotated[str, _TIMEZONE] = UTC_CALENDAR.timezone,
    anchor: Annotated[str, _ANCHOR] = str(UTC_CALENDAR.anchor),
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Create an organization. Its time zone and anchor hold from its start."""
    first_day = parse.anchor(anchor)

    async def work(operator: "Management") -> tuple[Organization, Plan]:
        organization = await operator.tenants.create_organization(name, plan, timezone=timezone, anchor=first_day)
        return organization, await operator.tenants.show_plan(organization.plan)

    settings = read_settings(config)
    created, its_plan = manage(settings, work)
    _print(created, its_plan, as_json)
    _warn_of_limits(created, its_plan, settings)


@app.command("list")
def list_all(config: options.Config = None, as_json: options.Json = False) -> None:
    """List all organizations by name."""
    organizations = manage(read_settings(config), lambda operator: operator.tenants.list_organizations())
    if as_json:
        output.print_json([organization.to_json() for organization in organizations])
    elif not organizations:
        output.hint("There is no organization yet: extauthz orgs create NAME")
    else:
        rows = [(each.name, each.id, each.plan, each.status, _settings(each) or "-") for each in organizations]
        output.print_table(("name", "id", "plan", "status", "own settings"), rows)


@app.command()
def show(organization: options.Organization, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show an organization and what it may spend."""

    async def work(operator: "Management") -> tuple[Organization, Plan]:
        found = await operator.tenants.show_organization(organization)
        return found, await operator.tenants.show_plan(found.plan)

    _print(*manage(read_settings(config), work), as_json)


@app.command(short_help="Change an organization and its own limits.")
@options.with_quotas
def update(
    organization: options.Organization,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Another name.", callback=parse.name)
    ] = None,
    plan: Annotated[str | None, _PLAN] = None,
    rate: options.Rate = None,
    burst: options.Burst = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="When limits of its own end: 30d, 2030-01-31T12:00:00Z; or none."),
    ] = None,
    timezone: Annotated[str | None, _TIMEZONE] = None,
    anchor: Annotated[str | None, _ANCHOR] = None,
    limits: Annotated[
        Literal["enforce", "shadow"] | None,
        typer.Option("--limits", help="Shadow: what they would refuse is counted and allowed."),
    ] = None,
    status: Annotated[
        Literal["active", "suspended"] | None, typer.Option("--status", help="Suspended: all its keys are refused.")
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
    **quotas: str | None,
) -> None:
    """Change an organization and its own limits; `none` goes back to the limit of the plan.

    Another time zone or anchor counts from the end of the day or month that is under way, and at once where nothing was
    charged yet.
    """
    changes = parse.limits({"rate": rate, "burst": burst, **quotas})
    texts = {"name": name, "plan": plan, "status": status, "timezone": timezone, "limits_mode": limits}
    changes |= {field: text for field, text in texts.items() if text is not None}
    if until is not None:
        changes["until"] = parse.until(until, datetime.now(UTC))
    if anchor is not None:
        changes["anchor"] = parse.anchor(anchor)
    if not changes:
        raise InvalidInput(
            "nothing to change: give --name, --plan, --status, --rate, --burst, --until, --timezone, --anchor,"
            f" --limits, {options.QUOTA_OPTIONS}"
        )
    settings = read_settings(config)

    async def work(operator: "Management") -> tuple[Organization, Plan, bool]:
        changed, told = await operator.tenants.update_organization(organization, changes)
        return changed, await operator.tenants.show_plan(changed.plan), told

    changed, its_plan, told = manage(settings, work)
    _print(changed, its_plan, as_json)
    _warn_of_limits(changed, its_plan, settings)
    warn_if_late(told, settings, cache="TENANT_QUOTA_CACHE_TTL")


@app.command(short_help="Delete an organization that has no usable key any more.")
def delete(organization: options.Organization, config: options.Config = None, as_json: options.Json = False) -> None:
    """Delete an organization that has no usable key any more, with its revoked, expired and disabled keys."""
    settings = read_settings(config)
    deleted, told = manage(settings, lambda operator: operator.tenants.delete_organization(organization))
    if as_json:
        output.print_json(deleted.to_json())
    else:
        output.print_line(f"Deleted the organization {deleted.name} ({deleted.id}).")
    warn_if_late(told, settings, cache="TENANT_QUOTA_CACHE_TTL")


app.command("credits")(grants.of_organization)


def _own_limits(organization: Organization) -> Mapping[str, object]:
    """The limits that it has in place of its plan's now."""
    own = {name: value for name, value in organization.overrides.items() if value is not None}
    return {} if _is_over(organization.until) else own


def _is_over(until: datetime | None) -> bool:
    return until is not None and until <= datetime.now(UTC)


def _warn_of_limits(organization: Organization, plan: Plan, settings: "Settings") -> None:
    if organization.limits_mode == ENFORCE:
        warn_if_too_small(organization.limits_now(plan, datetime.now(UTC)), settings)


def _settings(organization: Organization) -> str:
    """What differs from its plan and from what a new organization has, as it is typed."""
    ours = {option: (getattr(organization, name), default) for option, (name, default) in _DEFAULTS.items()}
    differing = {option: value for option, (value, default) in ours.items() if value != default}
    until = {} if organization.until is None else {"until": output.time_text(organization.until)}
    return as_options({**organization.overrides, **until, **differing})


def _print(organization: Organization, plan: Plan, as_json: bool) -> None:
    if as_json:
        output.print_json(organization.to_json())
        return
    details = {
        "name": organization.name,
        "id": organization.id,
        "plan": organization.plan,
        "status": organization.status,
    }
    own = _own_limits(organization)
    for name, text in limit_texts(plan.limits).items():
        details[name.replace("_", " ")] = f"{own[name]} (own)" if name in own else f"{text} (plan)"
    if organization.until is not None:
        over = " (over)" if _is_over(organization.until) else ""
        details["own until"] = output.time_text(organization.until) + over
    details |= {option: str(getattr(organization, name)) for option, (name, _) in _DEFAULTS.items()}
    for name, since in (("timezone", organization.timezone_from), ("anchor", organization.anchor_from)):
        if since is not None:
            details[name] += f" (from {output.time_text(since)} on)"
    output.print_details({**details, "created": output.time_text(organization.created_at)})
