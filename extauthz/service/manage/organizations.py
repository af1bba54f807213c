"""Plans and organizations, as a person manages them; the same for every way in."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from extauthz.core.calendar import UTC_CALENDAR
from extauthz.core.changes import EntityRef
from extauthz.core.errors import Conflict, InvalidInput
from extauthz.core.limit_kinds import LIMIT_COLUMNS, QUOTA_COLUMNS
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.management import Listing, Organization, Plan
from extauthz.core.management_ports import TenantStore
from extauthz.core.ports import SharedInvalidations
from extauthz.core.preconditions import Wanted
from extauthz.core.tenants import LIMITS_MODES, STATUSES
from extauthz.service.directory.invalidation import ChangeNotifier
from extauthz.service.manage import validation
from extauthz.service.manage.validation import end, known_fields, limits, one_of, text, utc_now

DEFAULT_PLAN = "default"
_OR = " or ".join(QUOTA_COLUMNS)
NOTHING_TO_END = (
    f"until is the end of an organization's own limits, and it has none: give rate and burst, {_OR} with it"
)

_CHECKED: Mapping[str, Callable[[object], object]] = {
    "name": validation.name,
    "plan": partial(text, "plan"),
    "status": partial(one_of, "status", words=STATUSES),
    "limits_mode": partial(one_of, "limits_mode", words=LIMITS_MODES),
    "timezone": validation.timezone,
    "anchor": validation.anchor,
}


class TenantService:
    """Creates, shows, changes and removes plans and organizations. Every method may raise StoreUnavailable.

    Plans and organizations are found by id or name. A change tells the shared cache; the flag that is returned says
    whether it could. If not, copies end by themselves. `version` is the `row_version` that a change is meant for:
    VersionMismatch where the thing has another by now.
    """

    def __init__(self, *, tenants: TenantStore, invalidations: SharedInvalidations) -> None:
        self._tenants = tenants
        self._notifier = ChangeNotifier(tenants, invalidations)

    async def create_plan(self, name: str, own: Mapping[str, object]) -> Plan:
        """A new plan with the limits `own`. Raises Conflict, InvalidInput."""
        return await self._tenants.create_plan(validation.name(name), limits(own))

    async def list_plans(self) -> list[Plan]:
        """All plans by name."""
        return await self._tenants.list_plans()

    async def page_of_plans(self, limit: int = 50, cursor: str | None = None) -> Listing[Plan]:
        """One page of the plans, newest first. Raises InvalidInput."""
        return await self._tenants.page_of_plans(limit=limit, cursor=cursor)

    async def show_plan(self, ref: str) -> Plan:
        """One plan. Raises NotFound."""
        return await self._tenants.show_plan(ref)

    async def update_plan(
        self, ref: str, changes: Mapping[str, object], *, version: Wanted = None
    ) -> tuple[Plan, bool]:
        """A plan with the limits of `changes` (null removes one), for all organizations that have it.

        Raises NotFound, InvalidInput, VersionMismatch.
        """
        known_fields(changes, LIMIT_COLUMNS)

        def edit(before: Plan) -> Limits:
            return limits(before.limits.to_record() | dict(changes))

        plan = await self._tenants.update_plan(ref, edit, version=version)
        return plan, await self._notifier.notify_change(EntityRef("plan", plan.id))

    async def delete_plan(self, ref: str) -> bool:
        """Removes a plan that no organization has. Raises NotFound, Conflict."""
        plan = await self._tenants.show_plan(ref)
        if plan.name == DEFAULT_PLAN:
            raise Conflict(f"the plan {DEFAULT_PLAN!r} stays: organizations get it when none is named")
        await self._tenants.delete_plan(plan.id)
        return await self._notifier.notify_change(EntityRef("plan", plan.id))

    async def create_organization(
        self, name: str, plan: str = DEFAULT_PLAN, *, timezone: str = UTC_CALENDAR.timezone, anchor: int = 1
    ) -> Organization:
        """A new organization, which counts so from its start. Raises NotFound (the plan), Conflict, InvalidInput."""
        return await self._tenants.create_organization(
            validation.name(name), plan, timezone=validation.timezone(timezone), anchor=validation.anchor(anchor)
        )

    async def list_organizations(self) -> list[Organization]:
        """All organizations by name."""
        return await self._tenants.list_organizations()

    async def page_of_organizations(self, limit: int = 50, cursor: str | None = None) -> Listing[Organization]:
        """One page of the organizations, newest first. Raises InvalidInput."""
        return await self._tenants.page_of_organizations(limit=limit, cursor=cursor)

    async def show_organization(self, ref: str) -> Organization:
        """One organization. Raises NotFound."""
        return await self._tenants.show_organization(ref)

    async def update_organization(
        self, ref: str, changes: Mapping[str, object], *, version: Wanted = None
    ) -> tuple[Organization, bool]:
        """An organization with another name, plan, status or calendar, or limits of its own (null is the plan's again).

        `until` is when its own limits end (null: never); `limits_mode` is `enforce` or `shadow`. Own limits that are
        over are dropped once it is given others, and with another plan or null for `until`; another time for `until`
        alone brings them back. Raises NotFound, Conflict, InvalidInput, VersionMismatch.
        """
        known_fields(changes, (*_CHECKED, *LIMIT_COLUMNS, "until"))
        now = utc_now()
        checked: dict[str, Any] = {name: check(changes[name]) for name, check in _CHECKED.items() if name in changes}
        if "until" in changes:
            checked["until"] = end("until", changes["until"], now)
        own = {name: changes[name] for name in LIMIT_COLUMNS if name in changes}
        anew = any(limit is not None for limit in own.values())
        anew |= checked.get("until") is None and not checked.keys().isdisjoint(("plan", "until"))

        def edit(before: Organization) -> Organization:
            if anew:
                before = _without_ended_limits(before, now)
            overrides = dict(before.overrides) | own
            _check_each(overrides)
            if own and not any(limit is not None for limit in overrides.values()):
                before = replace(before, until=None)  # it was the end of what has been taken back
            after = replace(before, overrides=overrides, **checked)
            if after.until is not None and not any(limit is not None for limit in overrides.values()):
                raise InvalidInput(NOTHING_TO_END)
            return after

        after = await self._tenants.update_organization(ref, edit, version=version)
        return after, await self._notifier.notify_change(EntityRef("organization", after.id))

    async def delete_organization(self, ref: str) -> tuple[Organization, bool]:
        """Removes an organization that has no usable key any more. Raises NotFound, Conflict."""
        gone = await self._tenants.delete_organization(ref)
        return gone, await self._notifier.notify_change(EntityRef("organization", gone.id))


def _without_ended_limits(organization: Organization, now: datetime) -> Organization:
    """The organization without limits of its own that have ended."""
    if organization.until is None or organization.until > now:
        return organization
    return replace(organization, overrides=dict.fromkeys(LIMIT_COLUMNS), until=None)


def _check_each(own: Mapping[str, object]) -> None:
    """Each limit by itself: whether rate and burst go together depends on the plan, too."""
    filled = {name: value for name, value in own.items() if value is not None}
    limits(UNLIMITED.to_record() | {"rate": "1/s", "burst": 1} | filled)
