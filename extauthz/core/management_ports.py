"""What management keeps, as protocols that the outside must fit. Every method may raise StoreUnavailable.

A method that writes is one transaction. `edit` is given what is stored, locked, and returns what shall be; what it
raises goes to the caller, and nothing was changed. `version` not None must be the stored `row_version`, else
VersionMismatch.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple, Protocol

from extauthz.core.errors import ExtauthzError
from extauthz.core.limits import Limits
from extauthz.core.management import AuditEntry, AuditFilter, KeyDetails, Listing, NewKey, Organization, Plan
from extauthz.core.preconditions import Wanted
from extauthz.core.rejections import Rejection, RejectionFilter


class Succession(NamedTuple):
    """A key that takes another's place, and when that other ends."""

    new: NewKey
    old_expires_at: datetime


class ClaimedEvent(NamedTuple):
    """A quota event that is to be delivered, and which attempt this is, from 1.

    `organization` is its name, None where it is gone; `window_start` the first date of the day or month.
    """

    id: str
    at: datetime
    organization_id: str
    organization: str | None
    quota: str
    window_start: date
    threshold: int
    used: int
    limit: int
    attempts: int


class ChangeLog(Protocol):
    """Where changes are committed."""

    async def horizon(self) -> int:
        """A fence (see `core.changes`) above every change that is committed by now."""
        ...


class KeyStore(ChangeLog, Protocol):
    """Keys as a person manages them."""

    async def create(self, new: NewKey) -> KeyDetails:
        """Stores a key. Raises InvalidInput, Conflict."""
        ...

    async def import_many(self, news: Sequence[NewKey]) -> list[KeyDetails | ExtauthzError]:
        """Stores keys of one organization; what is refused spares the others. AlreadyImported for what it has.

        One import at a time: a key that two bring at once, under whichever peppers, is stored once.
        """
        ...

    async def list_of(self, organization_id: str) -> list[KeyDetails]:
        """All keys of an organization, newest first."""
        ...

    async def page(self, organization_id: str | None, *, limit: int, cursor: str | None) -> Listing[KeyDetails]:
        """Keys of one organization or of all, newest first. Raises InvalidInput."""
        ...

    async def show(self, key_id: str) -> KeyDetails:
        """One key. Raises NotFound."""
        ...

    async def update(self, key_id: str, edit: Callable[[KeyDetails], KeyDetails], *, version: Wanted) -> KeyDetails:
        """Stores terms and `disabled_at`. Raises NotFound, InvalidInput, VersionMismatch."""
        ...

    async def rotate(self, key_id: str, succeed: Callable[[KeyDetails], Succession]) -> tuple[KeyDetails, KeyDetails]:
        """Puts a new key in place of a key; the new one and the old one. Raises NotFound, InvalidInput.

        Conflict for a key with credits of its own: two keys would use them while both are in force.
        """
        ...

    async def revoke(self, key_id: str, *, last: bool) -> KeyDetails:
        """Ends a key for good. Raises NotFound; Conflict for the last usable key of its organization unless `last`.

        Usable here is what may do something and has no successor.
        """
        ...

    async def peppers(self) -> Mapping[str, tuple[int, int]]:
        """By the id of a pepper: how many keys were digested with it, and how many of them are usable."""
        ...


class TenantStore(ChangeLog, Protocol):
    """Plans and organizations as a person manages them. Raises NotFound, Conflict, InvalidInput, VersionMismatch.

    A plan and an organization are found by their id or name.
    """

    async def create_plan(self, name: str, limits: Limits) -> Plan:
        """Stores a plan."""
        ...

    async def list_plans(self) -> list[Plan]:
        """All plans by name."""
        ...

    async def page_of_plans(self, *, limit: int, cursor: str | None) -> Listing[Plan]:
        """Plans, newest first."""
        ...

    async def show_plan(self, ref: str) -> Plan:
        """One plan."""
        ...

    async def update_plan(self, ref: str, edit: Callable[[Plan], Limits], *, version: Wanted) -> Plan:
        """Gives a plan other limits."""
        ...

    async def delete_plan(self, plan_id: str) -> None:
        """Removes a plan that no organization has."""
        ...

    async def create_organization(self, name: str, plan: str, *, timezone: str, anchor: int) -> Organization:
        """Stores an organization that counts so from its start."""
        ...

    async def list_organizations(self) -> list[Organization]:
        """All organizations by name."""
        ...

    async def page_of_organizations(self, *, limit: int, cursor: str | None) -> Listing[Organization]:
        """Organizations, newest first."""
        ...

    async def show_organization(self, ref: str) -> Organization:
        """One organization."""
        ...

    async def update_organization(
        self, ref: str, edit: Callable[[Organization], Organization], *, version: Wanted
    ) -> Organization:
        """Stores name, plan, status, calendar and overrides, which must fit the plan."""
        ...

    async def delete_organization(self, ref: str) -> Organization:
        """Removes an organization, which has no usable key, and its keys."""
        ...


class AuditStore(Protocol):
    """The audit log: changes with their actors."""

    async def page(
        self, organization_id: str | None, only: AuditFilter, *, limit: int, cursor: str | None
    ) -> Listing[AuditEntry]:
        """Changes of everything, or of an organization and its keys, newest first; `only.plan` is an id.

        Raises InvalidInput.
        """
        ...

    async def is_key(self, id_: str) -> bool:
        """Whether a key has that id, or had it as far as the audit log goes."""
        ...


class RejectionLogStore(Protocol):
    """Why requests were refused."""

    async def page(
        self, organization_id: str | None, only: RejectionFilter, *, limit: int, cursor: str | None
    ) -> Listing[Rejection]:
        """Refusals of an organization, newest first; None: where none is known. Raises InvalidInput."""
        ...


class QuotaEvents(Protocol):
    """Events of quotas that are to be delivered: each at least once, or given up."""

    async def claim(self, at_most: int, lease_seconds: float) -> list[ClaimedEvent]:
        """Undelivered events that are due, oldest first, for this caller alone.

        One that is not settled within `lease_seconds` is due again.
        """
        ...

    async def delivered(self, event_id: str) -> None:
        """It is done with."""
        ...

    async def postpone(self, event_id: str, seconds: float) -> None:
        """It is due again in so many seconds."""
        ...

    async def give_up(self, event_id: str) -> None:
        """It is never due again."""
        ...
