"""Rejections of the past, as commands and the admin API show them."""

from extauthz.core.errors import InvalidInput
from extauthz.core.management import Listing
from extauthz.core.management_ports import RejectionLogStore, TenantStore
from extauthz.core.masking import shown
from extauthz.core.reason import Reason
from extauthz.core.rejections import EVERY_REJECTION, Rejection, RejectionFilter

REFUSALS = tuple(reason.value for reason in Reason if reason is not Reason.ALLOW)


class RejectionLog:
    """Reads what every process has written down of refusals."""

    def __init__(self, *, rejections: RejectionLogStore, tenants: TenantStore) -> None:
        self._rejections = rejections
        self._tenants = tenants

    async def page(
        self,
        organization: str | None = None,
        only: RejectionFilter = EVERY_REJECTION,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Listing[Rejection]:
        """Refusals of an organization (id or name), newest first; None: of clients that no organization is known of.

        Raises NotFound, InvalidInput, StoreUnavailable.
        """
        if only.decision is not None and only.decision not in REFUSALS:
            raise InvalidInput(f"decision must be one of {', '.join(REFUSALS)} (got {shown(only.decision)!r})")
        id_ = None if organization is None else (await self._tenants.show_organization(organization)).id
        return await self._rejections.page(id_, only, limit=limit, cursor=cursor)
