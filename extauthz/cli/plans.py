"""`extauthz plans`: limits under a name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from extauthz.cli import options, output, parse
from extauthz.cli.session import manage, read_settings, warn_if_late, warn_if_too_small
from extauthz.core.errors import InvalidInput
from extauthz.core.limit_kinds import QUOTAS
from extauthz.core.limits import Limits
from extauthz.core.management import Plan

if TYPE_CHECKING:
    from extauthz.app.management import Management

app = typer.Typer(help="Plans: limits under a name, which organizations share.")

NO_LIMITS = Limits().to_record()


@app.command()
@options.with_quotas
def create(
    name: options.PlanName,
    rate: options.NeededRate,
    burst: options.NeededBurst,
    config: options.Config = None,
    as_json: options.Json = False,
    **quotas: str | None,
) -> None:
    """Create a plan."""
    limits = parse.limits({"rate": rate, "burst": burst, **quotas})
    settings = read_settings(config)
    plan = manage(settings, lambda operator: operator.tenants.create_plan(name, NO_LIMITS | limits))
    _print(plan, as_json)
    warn_if_too_small(plan.limits, settings)


@app.command("list")
def list_all(config: options.Config = None, as_json: options.Json = False) -> None:
    """List all plans by name."""
    plans = manage(read_settings(config), lambda operator: operator.tenants.list_plans())
    if as_json:
        output.print_json([plan.to_json() for plan in plans])
    else:
        headers = ("name", "rate", "burst", *(quota.label for quota in QUOTAS))
        output.print_table(headers, [(plan.name, *limit_texts(plan.limits).values()) for plan in plans])


@app.command()
def show(name: options.PlanName, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show a plan."""
    _print(manage(read_settings(config), lambda operator: operator.tenants.show_plan(name)), as_json)


@app.command()
@options.with_quotas
def update(
    name: options.PlanName,
    rate: options.Rate = None,
    burst: options.Burst = None,
    config: options.Config = None,
    as_json: options.Json = False,
    **quotas: str | None,
) -> None:
    """Change limits of a plan, for every organization that has it."""
    changes = parse.limits({"rate": rate, "burst": burst, **quotas})
    if not changes:
        raise InvalidInput(f"nothing to change: give --rate, --burst, {options.QUOTA_OPTIONS}")
    settings = read_settings(config)
    plan, told = manage(settings, lambda operator: operator.tenants.update_plan(name, changes))
    _print(plan, as_json)
    warn_if_too_small(plan.limits, settings)
    warn_if_late(told, settings, cache="TENANT_QUOTA_CACHE_TTL")


@app.command()
def delete(name: options.PlanName, config: options.Config = None, as_json: options.Json = False) -> None:
    """Delete a plan that no organization has."""

    async def show_and_delete(operator: "Management") -> tuple[Plan, bool]:
        plan = await operator.tenants.show_plan(name)
        return plan, await operator.tenants.delete_plan(name)

    settings = read_settings(config)
    plan, told = manage(settings, show_and_delete)
    if as_json:
        output.print_json(plan.to_json())
    else:
        output.print_line(f"Deleted the plan {plan.name}.")
    warn_if_late(told, settings, cache="TENANT_QUOTA_CACHE_TTL")


def limit_texts(limits: Limits) -> dict[str, str]:
    """Limits for a terminal, by their names in a record; `none` as it is typed."""
    return {name: parse.NONE if value is None else str(value) for name, value in limits.to_record().items()}


def as_options(record: Mapping[str, object]) -> str:
    """The limits of a record in one line, as they are typed; empty where there are none."""
    given = {name: value for name, value in record.items() if value is not None}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())


def _print(plan: Plan, as_json: bool) -> None:
    if as_json:
        output.print_json(plan.to_json())
        return
    limits = {name.replace("_", " "): text for name, text in limit_texts(plan.limits).items()}
    output.print_details({"name": plan.name, "id": plan.id, **limits, "created": output.time_text(plan.created_at)})
