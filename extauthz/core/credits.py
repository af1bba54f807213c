"""Credits: a count of tokens that does not renew, granted to an organization or a key."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from extauthz.core.limits import QUOTA_MAX
from extauthz.core.management_ports import ChangeLog
from extauthz.core.preconditions import Wanted

CREDITS_MAX = QUOTA_MAX
REASON_MAX = 500  # characters


@dataclass(frozen=True, slots=True)
class Credits:
    """What was granted in total to the organization or key `id`, None for no such limit, and what it has used.

    `organization_id` is the organization of a key, or the holder itself. A store has `used` as it was saved, some
    seconds behind the counters of Redis. `row_version` is that of the holder.
    """

    id: str
    name: str
    organization_id: str
    granted: int | None
    used: int
    row_version: int

    @property
    def counter(self) -> str:
        """The field of the organization's counters that counts it, as scripts/layout.lua names it."""
        return "credits" if self.id == self.organization_id else f"credits:{self.id}"

    @property
    def left(self) -> int | None:
        """What it may still use: less than 0 never, although a grant may be reduced below what was used."""
        return None if self.granted is None else max(self.granted - self.used, 0)

    def to_json(self) -> dict[str, object]:
        """One JSON object."""
        return {
            "id": self.id,
            "name": self.name,
            "granted": self.granted,
            "used": self.used,
            "left": self.left,
            "version": self.row_version,
        }


Edit = Callable[[Credits], int | None]


class CreditStore(ChangeLog, Protocol):
    """Credits as management grants them. Every method may raise NotFound, StoreUnavailable.

    An organization is found by its id or name, a key by its id. `grant` is one transaction, recorded with `reason`: it
    stores the total that `edit` returns. It raises what `edit` raises, and VersionMismatch.
    """

    async def of_organization(self, ref: str) -> Credits:
        """The credits of an organization."""
        ...

    async def of_key(self, key_id: str) -> Credits:
        """The credits of a key."""
        ...

    async def grant_to_organization(self, ref: str, edit: Edit, *, reason: str, version: Wanted) -> Credits:
        """Grants an organization another total."""
        ...

    async def grant_to_key(self, key_id: str, edit: Edit, *, reason: str, version: Wanted) -> Credits:
        """Grants a key another total. Raises Conflict for a revoked key."""
        ...
