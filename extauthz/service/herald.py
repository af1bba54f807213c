"""Tells all processes of a change that was made here, once it is committed."""

from extauthz.core.changes import Change, Thing
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import SharedFences
from extauthz.core.stores import ChangeLog


class Herald:
    """Raises a fence in the shared cache. Messages of PostgreSQL tell of the same change, where they arrive."""

    def __init__(self, log: ChangeLog, fences: SharedFences) -> None:
        self._log = log
        self._fences = fences

    async def tell(self, thing: Thing) -> bool:
        """Whether the shared cache could be told that `thing` has changed; if not, its copies end by themselves.

        It is never an error: the change stands, and must not be reported as if it did not.
        """
        try:
            await self._fences.raise_all([Change(thing, await self._log.horizon())])
        except StoreUnavailable:
            return False
        return True
