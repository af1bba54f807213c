"""Organizations and plans in PostgreSQL, as a person manages them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from psycopg.rows import DictRow

from extauthz.backends.postgres import pages
from extauthz.backends.postgres.errors import refused
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import fetch
from extauthz.backends.postgres.statements import as_id
from extauthz.backends.postgres.suggestions import NothingCalled, meant
from extauthz.backends.postgres.writing import Change, changing, expect
from extauthz.core.calendar import Calendar
from extauthz.core.errors import Conflict, InvalidInput, StoreCorrupt
from extauthz.core.limit_kinds import LIMIT_COLUMNS
from extauthz.core.limits import Limits
from extauthz.core.management import Listing, Organization, Plan
from extauthz.core.masking import shown
from extauthz.core.parsing import normal_name
from extauthz.core.ports import POSTGRESQL
from extauthz.core.preconditions import Wanted

_KEPT = ("timezone_before", "last_day", "anchor_before", "next_month")  # by a trigger
_STORED = ("name", "status", "until", "limits_mode", "timezone", "anchor")


class PostgresTenants:
    """The tables `organizations` and `plans`. `actor` is the author of changes in the audit log."""

    def __init__(self, pool: Pool, *, actor: str) -> None:
        self._pool = pool
        self._actor = actor

    async def horizon(self) -> int:
        """A fence above every change that is committed by now. Raises StoreUnavailable."""
        return int((await fetch(self._pool, "horizon"))[0]["horizon"])

    async def create_plan(self, name: str, limits: Limits) -> Plan:
        """Stores a plan. Raises Conflict, InvalidInput, StoreUnavailable."""
        async with changing(self._pool, self._actor) as change:
            (row,) = await change.fetch("create_plan", {"name": name, **limits.to_record()})
            return _plan(row)

    async def list_plans(self) -> list[Plan]:
        """All plans by name. Raises StoreUnavailable."""
        return [_plan(row) for row in await fetch(self._pool, "list_plans")]

    async def page_of_plans(self, *, limit: int, cursor: str | None) -> Listing[Plan]:
        """Plans, newest first. Raises InvalidInput, StoreUnavailable."""
        with refused():
            rows = await fetch(self._pool, "page_of_plans", pages.asked(limit, cursor))
        return pages.listing(rows, limit, _plan)

    async def show_plan(self, ref: str) -> Plan:
        """One plan, by id or name. Raises NotFound, StoreUnavailable."""
        async with meant(self._pool):
            return _only_plan(await fetch(self._pool, "show_plan", _named(ref)), ref)

    async def update_plan(self, ref: str, edit: Callable[[Plan], Limits], *, version: Wanted) -> Plan:
        """Gives a plan other limits. Raises NotFound, InvalidInput, Conflict, VersionMismatch, StoreUnavailable."""
        async with meant(self._pool), changing(self._pool, self._actor) as change:
            found = as_id(_only_plan(await change.fetch("show_plan", _named(ref)), ref).id)
            before = _only_plan(await change.fetch("lock_plan", {"id": found}), ref)
            expect(version, before.row_version)
            return _only_plan(await change.fetch("update_plan", {"id": found, **edit(before).to_record()}), ref)

    async def delete_plan(self, plan_id: str) -> None:
        """Removes a plan that no organization has. Raises NotFound, Conflict, StoreUnavailable."""
        async with meant(self._pool), changing(self._pool, self._actor) as change:
            plan = _only_plan(await change.fetch("lock_plan", {"id": as_id(plan_id)}), plan_id)
            (count,) = await change.fetch("count_of_plan", {"id": as_id(plan_id)})
            if users := count["organizations"]:
                raise Conflict(f"organizations still have the plan {plan.name!r} ({users}); give them another first")
            await change.fetch("delete_plan", {"id": as_id(plan_id)})

    async def create_organization(self, name: str, plan: str, *, timezone: str, anchor: int) -> Organization:
        """Stores an organization. Raises NotFound (the plan), Conflict, InvalidInput, StoreUnavailable."""
        async with meant(self._pool), changing(self._pool, self._actor) as change:
            plan_id = as_id((await _hold_plan(change, plan)).id)
            values = {"name": name, "plan_id": plan_id, "timezone": timezone, "anchor": anchor}
            (row,) = await change.fetch("create_organization", values)
            return _only_organization(await change.fetch("show_organization", _named(row["id"])), name)

    async def list_organizations(self) -> list[Organization]:
        """All organizations by name. Raises StoreUnavailable."""
        return [_organization(row) for row in await fetch(self._pool, "list_organizations")]

    async def page_of_organizations(self, *, limit: int, cursor: str | None) -> Listing[Organization]:
        """Organizations, newest first. Raises InvalidInput, StoreUnavailable."""
        with refused():
            rows = await fetch(self._pool, "page_of_organizations", pages.asked(limit, cursor))
        return pages.listing(rows, limit, _organization)

    async def show_organization(self, ref: str) -> Organization:
        """One organization, by id or name. Raises NotFound, StoreUnavailable."""
        async with meant(self._pool):
            return _only_organization(await fetch(self._pool, "show_organization", _named(ref)), ref)

    async def update_organization(
        self, ref: str, edit: Callable[[Organization], Organization], *, version: Wanted
    ) -> Organization:
        """Stores name, plan, status, calendar and overrides, which must fit the plan where one of the two is changed.

        Raises NotFound (also the plan), Conflict, InvalidInput, VersionMismatch, StoreUnavailable.
        """
        async with meant(self._pool), changing(self._pool, self._actor) as change:
            before = await _lock_organization(change, ref)
            expect(version, before.row_version)
            after = edit(before)
            plan = await _hold_plan(change, after.plan)
            _check_limits(before, after, plan)
            values = {name: getattr(after, name) for name in _STORED} | dict(after.overrides)
            await change.fetch("update_organization", values | {"id": as_id(before.id), "plan_id": as_id(plan.id)})
            return _only_organization(await change.fetch("show_organization", _named(before.id)), ref)

    async def delete_organization(self, ref: str) -> Organization:
        """Removes an organization and its keys. Raises NotFound; Conflict while a key is usable; StoreUnavailable."""
        async with meant(self._pool), changing(self._pool, self._actor) as change:
            gone = await _lock_organization(change, ref)
            await change.take_a_minute()
            (count,) = await change.fetch("count_usable_keys", {"organization_id": as_id(gone.id)})
            if usable := count["usable"]:
                raise Conflict(f"the organization still has usable keys ({usable}); revoke them first")
            await change.fetch("delete_organization", {"id": as_id(gone.id)})
            return gone


async def _hold_plan(change: Change, ref: str) -> Plan:
    return _only_plan(await change.fetch("hold_plan", _named(ref)), ref)


async def _lock_organization(change: Change, ref: str) -> Organization:
    for row in await change.fetch("lock_organization", _named(ref)):
        ref = row["id"]
    return _only_organization(await change.fetch("show_organization", _named(ref)), ref)


def _check_limits(before: Organization, after: Organization, plan: Plan) -> None:
    """Raises InvalidInput where its own limits, unless they are over, do not fit its plan after a change of either."""
    if (after.plan, after.overrides, after.until) == (before.plan, before.overrides, before.until):
        return
    try:
        after.limits_now(plan, datetime.now(UTC))
    except ValueError as error:
        raise InvalidInput(
            f"organization {shown(after.name)!r} on plan {plan.name!r}: {error}; give what is missing, or clear its own"
            " half with none"
        ) from None


def _named(ref: str) -> dict[str, object]:
    return {"id": as_id(ref), "ref": ref, "normal": normal_name(ref)}


def _only_plan(rows: Sequence[DictRow], ref: str) -> Plan:
    if not rows:
        raise NothingCalled("plan", ref)
    return _plan(rows[0])


def _only_organization(rows: Sequence[DictRow], ref: str) -> Organization:
    if not rows:
        raise NothingCalled("organization", ref)
    return _organization(rows[0])


def _plan(row: DictRow) -> Plan:
    try:
        limits = Limits.from_record(row)
    except ValueError as error:
        raise StoreCorrupt(POSTGRESQL, f"plan {row['name']}: {error}") from None
    return Plan(row["id"], row["name"], limits, row["created_at"], row["updated_at"], row["row_version"])


def _organization(row: DictRow) -> Organization:
    overrides = {name: row[name] for name in LIMIT_COLUMNS}
    others = {name: row[name] for name in row if name not in (*LIMIT_COLUMNS, *_KEPT)}
    with suppress(ValueError):  # a time zone that is no longer known can still be changed
        others |= Calendar.from_record(row).in_force_from()
    return Organization(overrides=overrides, **others)
