"""When keys were used: noted by every check, written by nobody's request."""

import asyncio
from time import monotonic

from extauthz.aio.tasks import cancel_until_done
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import UseLog

WRITE_EVERY = 30.0  # seconds; what a killed process loses
LOOK_EVERY = 1.0  # seconds between two looks whether there are
MANY = 10_000  # keys that were noted, which are written sooner: some 2 MB
AT_ONCE = 5000  # keys in one statement
PATIENCE = 5.0  # seconds for that; nobody waits
LAST_PATIENCE, AGAIN_AFTER = 1.0, 0.25  # seconds at the end, after which nothing is tried again; seconds between


class LastUsed:
    """Collects the last use of each key and writes it in batches. `log` None: nobody wants to know.

    A failure here says nothing of whether PostgreSQL is fit for look-ups, so no guard hears of it.
    """

    def __init__(self, log: UseLog | None) -> None:
        self._log = log
        self._times: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._times)

    def note(self, key_id: str, now: float) -> None:
        """The key was used at `now` (Unix seconds)."""
        self._times[key_id] = now

    async def keep_writing(self) -> None:
        """Writes what was noted, now and then, until cancelled."""
        written_at = monotonic()
        while True:
            await asyncio.sleep(min(LOOK_EVERY, WRITE_EVERY))
            if len(self._times) >= MANY or monotonic() >= written_at + WRITE_EVERY:
                await self.write()
                written_at = monotonic()

    async def write_all(self) -> None:
        """Writes what was noted at the end of a process, with a little patience for rows that are being changed."""
        until = monotonic() + LAST_PATIENCE
        while monotonic() < until:
            await self.write()
            if not self._times:
                return
            await asyncio.sleep(AGAIN_AFTER)

    async def write(self) -> None:
        """Writes all that was noted; what cannot be written now is kept for the next time."""
        waiting, self._times = self._times, {}
        if self._log is None:
            return
        ids = sorted(waiting)
        try:
            for start in range(0, len(ids), AT_ONCE):
                for key_id in await self._written(self._log, ids[start : start + AT_ONCE], waiting):
                    del waiting[key_id]
        except StoreUnavailable:
            return
        finally:  # also where we are cancelled: a time that was written is written once more, which changes nothing
            self._times = waiting | self._times

    async def _written(self, log: UseLog, ids: list[str], times: dict[str, float]) -> set[str]:
        """The keys that are done with. A row that PostgreSQL will not have changed does not hold up the others."""
        call = asyncio.create_task(log.used({key_id: times[key_id] for key_id in ids}))
        try:
            await asyncio.wait({call}, timeout=PATIENCE)
            if not call.done():
                raise StoreUnavailable("postgresql", "timeout")
            return set(ids) - set(call.result())
        except StoreUnavailable as error:
            if error.reason != "refused":
                raise
        finally:
            await cancel_until_done([call])
        if len(ids) == 1:
            return set(ids)
        half = len(ids) // 2
        return await self._written(log, ids[:half], times) | await self._written(log, ids[half:], times)
