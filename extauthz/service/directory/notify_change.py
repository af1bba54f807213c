"""Tells all processes of a change that was made here, once it is committed."""

from extauthz.core.changes import Change, EntityRef
from extauthz.core.errors import StoreUnavailable
from extauthz.core.management_ports import ChangeLog
from extauthz.core.ports import SharedInvalidations


class ChangeNotifier:
    """Raises a fence in the shared cache. Messages of PostgreSQL tell of the same change, where they arrive."""

    def __init__(self, log: ChangeLog, invalidations: SharedInvalidations) -> None:
        self._log = log
        self._fences = invalidations

    async def tell(self, thing: EntityRef) -> bool:
        """Whether the shared cache could be told that `thing` has changed; if not, its copies end by themselves.

        It is never an error: the change stands, and must not be reported as if it did not.
        """
        try:
            await self._fences.raise_all([Change(thing, await self._log.horizon())])
        except StoreUnavailable:
            return False
        return True
