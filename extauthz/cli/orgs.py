"""`extauthz orgs`: organizations, each with a plan and perhaps limits of its own."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from extauthz.cli import options, output, parse
from extauthz.cli.plans import as_options, limit_texts
from extauthz.cli.session import manage, read_settings, warn_if_late
from extauthz.core.errors import InvalidInput
from extauthz.core.records import Organization, Plan
from extauthz.service.tenants import DEFAULT_PLAN

if TYPE_CHECKING:
    from extauthz.management import Management

app = typer.Typer(help="Organizations: who has keys, on which plan.")

_PLAN = typer.Option("--plan", metavar="P", help="The name of its plan.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.", callback=parse.name)],
    plan: Annotated[str, _PLAN] = DEFAULT_PLAN,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Create an organization."""

    async def work(office: "Management") -> tuple[Organization, Plan]:
        organization = await office.tenants.create_organization(name, plan)
        return organization, await office.tenants.show_plan(organization.plan)

    _print(*manage(read_settings(config), work), as_json)


@app.command("list")
def list_all(config: options.Config = None, as_json: options.Json = False) -> None:
    """List all organizations by name."""
    organizations = manage(read_settings(config), lambda office: office.tenants.list_organizations())
    if as_json:
        output.print_json([organization.to_json() for organization in organizations])
    elif not organizations:
        output.hint("There is no organization yet: extauthz orgs create NAME")
    else:
        rows = [
            (each.name, each.id, each.plan, each.status, as_options(each.overrides) or "-") for each in organizations
        ]
        output.print_table(("name", "id", "plan", "status", "own limits"), rows)


@app.command()
def show(organization: options.Organization, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show an organization and what it may spend."""

    async def work(office: "Management") -> tuple[Organization, Plan]:
        found = await office.tenants.show_organization(organization)
        return found, await office.tenants.show_plan(found.plan)

    _print(*manage(read_settings(config), work), as_json)


@app.command()
def update(
    organization: options.Organization,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Another name.", callback=parse.name)
    ] = None,
    plan: Annotated[str | None, _PLAN] = None,
    rate: options.Rate = None,
    burst: options.Burst = None,
    daily_quota: options.DailyQuota = None,
    monthly_quota: options.MonthlyQuota = None,
    status: Annotated[
        Literal["active", "suspended"] | None, typer.Option("--status", help="Suspended: all its keys are refused.")
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Change name, plan, status or own limits of an organization; `none` goes back to the limit of the plan."""
    changes = parse.limits({"rate": rate, "burst": burst, "daily_quota": daily_quota, "monthly_quota": monthly_quota})
    texts = {"name": name, "plan": plan, "status": status}
    changes |= {field: text for field, text in texts.items() if text is not None}
    if not changes:
        raise InvalidInput(
            "nothing to change: give --name, --plan, --status, --rate, --burst, --daily-quota or --monthly-quota"
        )
    settings = read_settings(config)

    async def work(office: "Management") -> tuple[Organization, Plan, bool]:
        changed, told = await office.tenants.update_organization(organization, changes)
        return changed, await office.tenants.show_plan(changed.plan), told

    changed, its_plan, told = manage(settings, work)
    _print(changed, its_plan, as_json)
    warn_if_late(told, settings, cache="TENANT_QUOTA_CACHE_TTL")


@app.command()
def delete(organization: options.Organization, config: options.Config = None, as_json: options.Json = False) -> None:
    """Delete an organization that has no usable key any more, with its revoked, expired and disabled keys."""
    settings = read_settings(config)
    deleted, told = manage(settings, lambda office: office.tenants.delete_organization(organization))
    if as_json:
        output.print_json(deleted.to_json())
    else:
        output.print_line(f"Deleted the organization {deleted.name} ({deleted.id}).")
    warn_if_late(told, settings, cache="TENANT_QUOTA_CACHE_TTL")


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
    for name, text in limit_texts(plan.limits).items():
        own = organization.overrides[name]
        details[name.replace("_", " ")] = f"{text} (plan)" if own is None else f"{own} (own)"
    output.print_details({**details, "created": output.time_text(organization.created_at)})
