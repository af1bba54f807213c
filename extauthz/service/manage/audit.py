"""The audit log: changes with actor and time, also of what was deleted."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from extauthz.core.errors import NotFound
from extauthz.core.management import EVERY_CHANGE, AuditEntry, AuditFilter, Listing, Organization, Plan, looks_like_id
from extauthz.core.management_ports import AuditStore, TenantStore
from extauthz.core.masking import shown


class AuditService:
    """Reads what triggers of the database wrote in the same transaction as each change."""

    def __init__(self, *, audit: AuditStore, tenants: TenantStore) -> None:
        self._audit = audit
        self._tenants = tenants

    async def page(
        self,
        organization: str | None = None,
        only: AuditFilter = EVERY_CHANGE,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Listing[AuditEntry]:
        """Changes of everything, or of an organization (id or name) and its keys, newest first.

        One that was deleted is found by its id, and so is a plan. Raises NotFound, InvalidInput, StoreUnavailable.
        """
        id_ = None if organization is None else await self._id("one", organization, self._tenants.show_organization)
        if only.plan is not None:
            only = replace(only, plan=await self._id("a plan", only.plan, self._tenants.show_plan))
        if only.key_id is not None and not await self._audit.is_key(only.key_id):
            raise NotFound(f"no key has the id {shown(only.key_id)!r}")
        return await self._audit.page(id_, only, limit=limit, cursor=cursor)

    async def _id(self, kind: str, ref: str, show: Callable[[str], Awaitable[Organization | Plan]]) -> str:
        try:
            return (await show(ref)).id
        except NotFound as error:
            if looks_like_id(ref):
                return ref.lower()
            raise NotFound(f"{error}; {kind} that was deleted is found by its id") from None
