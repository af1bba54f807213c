"""Organizations and plans in PostgreSQL: read by id for a check, by name for a person."""

from psycopg.rows import DictRow

from extauthz.backends.postgres.errors import refused
from extauthz.backends.postgres.pool import Pool, as_id, fetch
from extauthz.core.errors import Conflict, NotFound, StoreCorrupt
from extauthz.core.limits import Limits
from extauthz.core.ports import POSTGRESQL
from extauthz.core.records import Organization, Plan
from extauthz.core.tenants import Tenant

LIMITS = ("rate", "burst", "daily_quota", "monthly_quota")


class PostgresTenants:
    """The tables `organizations` and `plans`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, tenant_id: str, now: float) -> Tenant | None:
        """The organization of that id. Raises StoreUnavailable, StoreCorrupt."""
        rows = await fetch(self._pool, "find_tenant", {"id": as_id(tenant_id)})
        if not rows:
            return None
        try:
            return Tenant.from_record(rows[0] | {"loaded_at": now})
        except ValueError as error:
            raise StoreCorrupt(POSTGRESQL, f"organization {tenant_id}: {error}") from None

    async def create_plan(self, name: str, limits: Limits) -> Plan:
        """Stores a plan. Raises Conflict, InvalidInput, StoreUnavailable."""
        with refused():
            (row,) = await fetch(self._pool, "create_plan", {"name": name, **limits.to_record()})
        return _plan(row)

    async def list_plans(self) -> list[Plan]:
        """All plans by name. Raises StoreUnavailable."""
        return [_plan(row) for row in await fetch(self._pool, "list_plans")]

    async def show_plan(self, name: str) -> Plan:
        """One plan. Raises NotFound, StoreUnavailable."""
        return _plan(_only(await fetch(self._pool, "show_plan", {"name": name}), f"no plan is called {name[:64]!r}"))

    async def update_plan(self, name: str, limits: Limits) -> tuple[Plan, list[str]]:
        """Gives a plan other limits; the plan and the organizations that have it. Raises NotFound, InvalidInput."""
        with refused():
            rows = await fetch(self._pool, "update_plan", {"name": name, **limits.to_record()})
        plan = _plan(_only(rows, f"no plan is called {name[:64]!r}"))
        return plan, [row["id"] for row in await fetch(self._pool, "tenants_of_plan", {"name": name})]

    async def delete_plan(self, name: str) -> None:
        """Removes a plan that no organization has. Raises NotFound, Conflict, StoreUnavailable."""
        users = await fetch(self._pool, "tenants_of_plan", {"name": name})
        if users:
            raise Conflict(f"organizations still have the plan {name[:64]!r} ({len(users)}); give them another first")
        with refused():
            _only(await fetch(self._pool, "delete_plan", {"name": name}), f"no plan is called {name[:64]!r}")

    async def create_organization(self, name: str, plan: str) -> Organization:
        """Stores an organization. Raises NotFound (the plan), Conflict, InvalidInput, StoreUnavailable."""
        with refused():
            rows = await fetch(self._pool, "create_organization", {"name": name, "plan": plan})
        return await self.show_organization(_only(rows, f"no plan is called {plan[:64]!r}")["id"])

    async def list_organizations(self) -> list[Organization]:
        """All organizations by name. Raises StoreUnavailable."""
        return [_organization(row) for row in await fetch(self._pool, "list_organizations")]

    async def show_organization(self, ref: str) -> Organization:
        """One organization, by id or name. Raises NotFound, StoreUnavailable."""
        rows = await fetch(self._pool, "show_organization", {"id": as_id(ref), "ref": ref})
        return _organization(_only(rows, f"no organization has the id or name {ref[:64]!r}"))

    async def update_organization(self, changed: Organization) -> Organization:
        """Stores plan, status and overrides. Raises NotFound (the plan), InvalidInput, StoreUnavailable."""
        values = {"id": as_id(changed.id), "plan": changed.plan, "status": changed.status, **changed.overrides}
        with refused():
            rows = await fetch(self._pool, "update_organization", values)
        return await self.show_organization(_only(rows, f"no plan is called {changed.plan[:64]!r}")["id"])

    async def delete_organization(self, tenant_id: str) -> list[str]:
        """Removes an organization and its keys; the digests of the keys. Raises StoreUnavailable."""
        return [row["digest"] for row in await fetch(self._pool, "delete_organization", {"id": as_id(tenant_id)})]


def _only(rows: list[DictRow], otherwise: str) -> DictRow:
    if not rows:
        raise NotFound(otherwise)
    return rows[0]


def _plan(row: DictRow) -> Plan:
    try:
        limits = Limits.from_record(row)
    except ValueError as error:
        raise StoreCorrupt(POSTGRESQL, f"plan {row['name']}: {error}") from None
    return Plan(row["id"], row["name"], limits, row["created_at"])


def _organization(row: DictRow) -> Organization:
    overrides = {name: row[name] for name in LIMITS}
    return Organization(row["id"], row["name"], row["plan"], row["status"], overrides, row["created_at"])
