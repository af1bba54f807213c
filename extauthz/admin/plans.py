"""`/v1/plans`."""

from extauthz.admin.operation import Answer, Call, Operation, page
from extauthz.admin.schemas import plans as schemas
from extauthz.admin.schemas.base import Nothing, PageQuery
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.management import Plan

_ALL, _ONE = "/v1/plans", "/v1/plans/{plan}"


async def list_plans(call: Call[Nothing, PageQuery]) -> Answer:
    """Plans, newest first."""
    listing = await call.services.tenants.page_of_plans(limit=call.query.limit, cursor=call.query.cursor)
    return page(listing, Plan.to_json)


async def create_plan(call: Call[schemas.NewPlan, Nothing]) -> Answer:
    """Make a plan."""
    plan = await call.services.tenants.create_plan(call.body.name, call.body.limit_record())
    return _plan(plan, location=f"{_ALL}/{plan.id}", limits=plan.limits)


async def show_plan(call: Call[Nothing, Nothing]) -> Answer:
    """One plan, by id or name."""
    return _plan(await call.services.tenants.show_plan(call.ref))


async def update_plan(call: Call[schemas.PlanChanges, Nothing]) -> Answer:
    """Change a plan's limits, for every organization that has it."""
    plan, told = await call.services.tenants.update_plan(call.ref, call.body.changes(), version=call.version)
    return _plan(plan, told=told, limits=plan.limits)


async def delete_plan(call: Call[Nothing, Nothing]) -> Answer:
    """Remove a plan that no organization has. The plan `default` stays."""
    return Answer(told=await call.services.tenants.delete_plan(call.ref))


def _plan(plan: Plan, *, location: str | None = None, told: bool = True, limits: Limits = UNLIMITED) -> Answer:
    return Answer(plan.to_json(), version=plan.row_version, location=location, told=told, limits=limits)


OPERATIONS = (
    Operation("GET", _ALL, list_plans, schemas.Plans, query=PageQuery),
    Operation("POST", _ALL, create_plan, schemas.Plan, body=schemas.NewPlan, status=201),
    Operation("GET", _ONE, show_plan, schemas.Plan),
    Operation("PATCH", _ONE, update_plan, schemas.Plan, body=schemas.PlanChanges, conditional=True),
    Operation("DELETE", _ONE, delete_plan, None, status=204),
)
