"""Who changed what, and when; also of what is gone."""

from extauthz.core.errors import NotFound
from extauthz.core.records import AuditEntry, Listing, looks_like_id
from extauthz.core.stores import AuditStore, TenantStore


class AuditService:
    """Reads what triggers of the database wrote in the same transaction as each change."""

    def __init__(self, *, audit: AuditStore, tenants: TenantStore) -> None:
        self._audit = audit
        self._tenants = tenants

    async def page(
        self, organization: str | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> Listing[AuditEntry]:
        """Changes of everything, or of an organization (id or name) and its keys, newest first.

        One that was deleted is known by its id. Raises NotFound, InvalidInput, StoreUnavailable.
        """
        id_ = None if organization is None else await self._id(organization)
        return await self._audit.page(id_, limit=limit, cursor=cursor)

    async def _id(self, organization: str) -> str:
        try:
            return (await self._tenants.show_organization(organization)).id
        except NotFound as error:
            if looks_like_id(organization):
                return organization.lower()
            raise NotFound(f"{error}; one that was deleted is found by its id") from None
