"""Plans and organizations, as a person manages them; the same for every way in."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from extauthz.core.errors import Conflict, InvalidInput, StoreUnavailable
from extauthz.core.limits import Limits, Rate
from extauthz.core.ports import KeyCache, KeyStore, TenantCache, TenantStore
from extauthz.core.records import Organization, Plan

DEFAULT_PLAN = "default"


class TenantService:
    """Creates, shows, changes and removes plans and organizations. Every method may raise StoreUnavailable.

    A change tells the shared cache; the flag that is returned says whether it could. If not, copies end by themselves.
    """

    def __init__(self, *, tenants: TenantStore, keys: KeyStore, cache: TenantCache, key_cache: KeyCache) -> None:
        self._tenants = tenants
        self._keys = keys
        self._cache = cache
        self._key_cache = key_cache

    async def create_plan(self, name: str, limits: Mapping[str, object]) -> Plan:
        """A new plan. Raises Conflict, InvalidInput."""
        return await self._tenants.create_plan(name, _limits(limits))

    async def list_plans(self) -> list[Plan]:
        """All plans by name."""
        return await self._tenants.list_plans()

    async def show_plan(self, name: str) -> Plan:
        """One plan. Raises NotFound."""
        return await self._tenants.show_plan(name)

    async def update_plan(self, name: str, changes: Mapping[str, object]) -> tuple[Plan, bool]:
        """A plan with the limits of `changes` (null removes one), for all organizations that have it.

        Raises NotFound, InvalidInput.
        """
        before = await self._tenants.show_plan(name)
        plan, tenants = await self._tenants.update_plan(name, _limits(before.limits.to_record() | dict(changes)))
        return plan, await self._forget(tenants)

    async def delete_plan(self, name: str) -> None:
        """Removes a plan that no organization has. Raises NotFound, Conflict."""
        if name == DEFAULT_PLAN:
            raise Conflict(f"the plan {DEFAULT_PLAN!r} stays: organizations get it when none is named")
        await self._tenants.delete_plan(name)

    async def create_organization(self, name: str, plan: str = DEFAULT_PLAN) -> Organization:
        """A new organization. Raises NotFound (the plan), Conflict, InvalidInput."""
        return await self._tenants.create_organization(name, plan)

    async def list_organizations(self) -> list[Organization]:
        """All organizations by name."""
        return await self._tenants.list_organizations()

    async def show_organization(self, ref: str) -> Organization:
        """One organization, by id or name. Raises NotFound."""
        return await self._tenants.show_organization(ref)

    async def update_organization(self, ref: str, changes: Mapping[str, object]) -> tuple[Organization, bool]:
        """An organization with another plan, status, or limits of its own (null clears an override).

        Raises NotFound, InvalidInput.
        """
        before = await self._tenants.show_organization(ref)
        plan = str(changes.get("plan", before.plan))
        overrides = {name: changes.get(name, value) for name, value in before.overrides.items()}
        inherited = (await self._tenants.show_plan(plan)).limits.to_record()
        _limits(inherited | {name: value for name, value in overrides.items() if value is not None})
        status = str(changes.get("status", before.status))
        after = await self._tenants.update_organization(replace(before, plan=plan, status=status, overrides=overrides))
        return after, await self._forget([after.id])

    async def delete_organization(self, ref: str) -> tuple[Organization, bool]:
        """Removes an organization that has no usable key any more. Raises NotFound, Conflict."""
        organization = await self._tenants.show_organization(ref)
        if usable := await self._keys.usable(organization.id):
            raise Conflict(f"the organization still has usable keys ({usable}); revoke them first")
        digests = await self._tenants.delete_organization(organization.id)
        try:
            await self._key_cache.drop(digests)
        except StoreUnavailable:
            return organization, False
        return organization, await self._forget([organization.id])

    async def _forget(self, tenant_ids: Collection[str]) -> bool:
        try:
            await self._cache.drop(list(tenant_ids))
        except StoreUnavailable:
            return False
        return True


def _limits(record: Mapping[str, object]) -> Limits:
    try:
        rate = record.get("rate")
        if isinstance(rate, str):
            Rate.parse(rate)  # unlike the reader of records, it repeats to a person what it cannot take
        return Limits.from_record(record)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
