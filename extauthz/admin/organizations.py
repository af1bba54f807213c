"""`/v1/organizations`."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from extauthz.admin.operation import Answer, Call, Operation, page
from extauthz.admin.schemas import organizations as schemas
from extauthz.admin.schemas.base import Nothing, PageQuery
from extauthz.core.errors import ExtauthzError
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.management import Organization
from extauthz.core.tenants import ENFORCE

_ALL, _ONE = "/v1/organizations", "/v1/organizations/{organization}"


async def list_organizations(call: Call[Nothing, PageQuery]) -> Answer:
    """Organizations, newest first."""
    listing = await call.services.tenants.page_of_organizations(limit=call.query.limit, cursor=call.query.cursor)
    return page(listing, Organization.to_json)


async def create_organization(call: Call[schemas.NewOrganization, Nothing]) -> Answer:
    """Make an organization."""
    body = call.body
    organization = await call.services.tenants.create_organization(
        body.name, body.plan, timezone=body.timezone, anchor=body.anchor
    )
    limits = await _limits(call, organization)
    return _organization(organization, location=f"{_ALL}/{organization.id}", limits=limits)


async def show_organization(call: Call[Nothing, Nothing]) -> Answer:
    """One organization, by id or name."""
    return _organization(await call.services.tenants.show_organization(call.ref))


async def update_organization(call: Call[schemas.OrganizationChanges, Nothing]) -> Answer:
    """Change an organization: its name, plan, limits of its own, or status. All keys of a suspended one are refused."""
    organization, told = await call.services.tenants.update_organization(
        call.ref, call.body.changes(), version=call.version
    )
    return _organization(organization, told=told, limits=await _limits(call, organization))


async def delete_organization(call: Call[Nothing, Nothing]) -> Answer:
    """Remove an organization and its keys. Refused while one of them is usable."""
    _, told = await call.services.tenants.delete_organization(call.ref)
    return Answer(told=told)


def _organization(
    organization: Organization, *, location: str | None = None, told: bool = True, limits: Limits = UNLIMITED
) -> Answer:
    version = organization.row_version
    return Answer(organization.to_json(), version=version, location=location, told=told, limits=limits)


async def _limits(call: Call[Any, Any], organization: Organization) -> Limits:
    """What an organization may spend now, for a warning; no limits where none refuses, or where none can be read."""
    if organization.limits_mode != ENFORCE:
        return UNLIMITED
    with suppress(ExtauthzError, ValueError):  # what was asked for is done by now
        return organization.limits_now(await call.services.tenants.show_plan(organization.plan), datetime.now(UTC))
    return UNLIMITED


OPERATIONS = (
    Operation("GET", _ALL, list_organizations, schemas.Organizations, query=PageQuery),
    Operation("POST", _ALL, create_organization, schemas.Organization, body=schemas.NewOrganization, status=201),
    Operation("GET", _ONE, show_organization, schemas.Organization),
    Operation(
        "PATCH", _ONE, update_organization, schemas.Organization, body=schemas.OrganizationChanges, conditional=True
    ),
    Operation("DELETE", _ONE, delete_organization, None, status=204),
)
