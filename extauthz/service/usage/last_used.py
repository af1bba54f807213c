"""When keys were used: noted by every check, written in batches in the background."""

import asyncio
from time import monotonic

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, UseLog
from extauthz.service.store_calls import bounded_call

WRITE_INTERVAL_SECONDS = 30.0  # the uses that a killed process loses
LOOK_INTERVAL_SECONDS = 1.0  # between two looks at how many there are
EARLY_WRITE_KEYS = 10_000  # that were noted, which are written sooner: some 2 MB
WRITE_BATCH_MAX = 5000  # keys in one statement
WRITE_TIMEOUT_SECONDS = 5.0  # for one statement; no check waits for it
LAST_WRITE_SECONDS = 1.0  # at the end of a process, after which nothing is tried again
RETRY_INTERVAL_SECONDS = 0.25  # in that time


class LastUsed:
    """Collects the last use of each key and writes it in batches; `log` None: it is not written.

    A failure here says nothing of whether PostgreSQL is fit for look-ups, so it does not open the circuit breaker.
    """

    def __init__(self, log: UseLog | None) -> None:
        self._log = log
        self._times: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._times)

    def note(self, key_id: str, now: float) -> None:
        """Note that a key was used at `now` (Unix seconds)."""
        self._times[key_id] = now

    async def keep_writing(self) -> None:
        """Write what was noted, every `WRITE_INTERVAL_SECONDS` or once there is much, until cancelled."""
        written_at = monotonic()
        while True:
            await asyncio.sleep(min(LOOK_INTERVAL_SECONDS, WRITE_INTERVAL_SECONDS))
            if len(self._times) >= EARLY_WRITE_KEYS or monotonic() >= written_at + WRITE_INTERVAL_SECONDS:
                await self.write()
                written_at = monotonic()

    async def write_all(self) -> None:
        """Write what was noted at the end of a process; rows that are being changed are tried for a short time."""
        until = monotonic() + LAST_WRITE_SECONDS
        while monotonic() < until:
            await self.write()
            if not self._times:
                return
            await asyncio.sleep(RETRY_INTERVAL_SECONDS)

    async def write(self) -> None:
        """Write all that was noted; what cannot be written now is kept for the next time."""
        waiting, self._times = self._times, {}
        if self._log is None:
            return
        ids = sorted(waiting)
        try:
            for start in range(0, len(ids), WRITE_BATCH_MAX):
                for key_id in await self._written(self._log, ids[start : start + WRITE_BATCH_MAX], waiting):
                    del waiting[key_id]
        except StoreUnavailable:
            return
        finally:  # also where we are cancelled: a time that was written is written once more, which changes nothing
            self._times = waiting | self._times

    async def _written(self, log: UseLog, ids: list[str], times: dict[str, float]) -> set[str]:
        """Write a batch; return its keys that need not be written again.

        A row that PostgreSQL refuses to change does not hold up the others: halves of the batch are tried alone.
        """
        call = log.used({key_id: times[key_id] for key_id in ids})
        try:
            return set(ids) - set(await bounded_call(call, WRITE_TIMEOUT_SECONDS, POSTGRESQL))
        except StoreUnavailable as error:
            if error.reason != "refused":
                raise
        if len(ids) == 1:
            return set(ids)
        half = len(ids) // 2
        return await self._written(log, ids[:half], times) | await self._written(log, ids[half:], times)
