"""Usage flush: charges and refusals go to PostgreSQL in the background, where bills are made of them."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import date
from time import monotonic
from typing import Any

from extauthz.core.errors import StoreUnavailable
from extauthz.core.limit_kinds import DAILY_QUOTA
from extauthz.core.observers import Observer
from extauthz.core.ports import POSTGRESQL, REDIS, UsageSource, UsageStore
from extauthz.core.reason import Reason
from extauthz.core.spend import Row, Spend
from extauthz.core.usage import UsageBatch
from extauthz.service.store_calls import bounded_call
from extauthz.service.usage.refused_counts import RefusedCounts
from extauthz.service.usage.thresholds import Thresholds

REFUSALS_INTERVAL_SECONDS = 1.0  # the refusals that a killed process loses
SAVE_INTERVAL_SECONDS = 10.0  # the charges that are forgiven when Redis loses its memory
MARKS_PER_BATCH_MAX = 2000  # marks in one transaction
CALL_TIMEOUT_SECONDS = 5.0
SAVE_TIMEOUT_SECONDS = 30.0  # for one transaction with many rows
# Why a store that is there takes nothing. While it is away, that is told already.
REFUSED = frozenset({"read_only", "disk_full", "authentication", "refused", "client", "memory"})
STOP_TIMEOUT_SECONDS = 1.0  # after which nothing is tried again
RETRY_DELAY_SECONDS = 0.25  # until then

Incomplete = Mapping[str, Sequence[date]]  # tenants that were charged without what was before, on these days


class UsageFlush:
    """Saves charges, adds refusals, announces thresholds. `source`, `usage` and `complete` None: no usage is kept.

    Charges are in Redis until they are saved, so every worker tries, and one at a time does it. A failure says nothing
    of whether the stores are fit for checks, so no circuit breaker is told of it. `complete` restores the counters of
    tenants that were charged without what was before, and says whether there were none.
    """

    def __init__(
        self,
        source: UsageSource | None,
        usage: UsageStore | None,
        *,
        complete: Callable[[Incomplete], Coroutine[Any, Any, bool]] | None,
        observer: Observer,
    ) -> None:
        self._source = source
        self._usage = usage
        self._complete = complete
        self._observer = observer
        self._refusals = RefusedCounts()
        self._thresholds = Thresholds()
        self._position = 0  # marks before the next batch
        self._late = False  # something could not be saved, and is tried again soon
        self._told = ""
        self._incomplete = False  # counters that began without PostgreSQL could not be completed

    def note(self, asked: Spend, row: Row, reason: Reason) -> None:
        """A spend was answered by `row`; `reason` is what was decided by it."""
        windows = asked.windows
        if self._usage is None or windows is None:
            return
        if reason is not Reason.ALLOW:
            day = windows.days.dates[row[DAILY_QUOTA.window_place] - 1]
            self._refusals.note(asked.owner.id, asked.key_id, day=day, reason=reason)
        self._thresholds.note(asked, windows, row)

    async def keep_saving(self) -> None:
        """Writes everything down again and again, until cancelled."""
        saved_at = monotonic()
        while True:
            await asyncio.sleep(REFUSALS_INTERVAL_SECONDS)
            await self.add()
            if self._late or monotonic() - saved_at >= SAVE_INTERVAL_SECONDS:
                saved_at = monotonic()
                await self.save()

    async def save_all(self) -> None:
        """Writes everything down once more at the end of a process, with a little patience. Charges are safe anyway."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                while not (await self.add() and await self.save()):  # noqa: ASYNC110 - there is no event to wait for
                    await asyncio.sleep(RETRY_DELAY_SECONDS)

    async def add(self) -> bool:
        """Adds refusals and announces thresholds. False: a store failed, and all that is left waits."""
        if self._usage is None:
            return True
        try:
            for _ in range(self._refusals.batches):  # those that come meanwhile have time until the next call
                if (batch := self._refusals.next()) is not None:
                    await bounded_call(self._usage.add_refusals(*batch), CALL_TIMEOUT_SECONDS, POSTGRESQL)
                    self._refusals.added()
            while events := self._thresholds.next():
                new = await bounded_call(self._usage.announce(events), CALL_TIMEOUT_SECONDS, POSTGRESQL)
                self._thresholds.announced(events)
                for event in new:
                    self._observer.quota_threshold(event)
        except StoreUnavailable as error:
            return self._failed(error)
        return True

    async def save(self) -> bool:
        """Saves charges, unless another worker does. False: something keeps its marks for the next time.

        A store failed, or counters that began without PostgreSQL were not complete yet.
        """
        if self._source is None or self._usage is None:
            return True
        began, complete = monotonic(), True
        try:
            while True:
                saving = self._save_batch(self._source, self._usage)
                batch = await bounded_call(saving, SAVE_TIMEOUT_SECONDS, POSTGRESQL)
                self._worked()
                if batch is None:
                    return complete
                complete = await self._completed(batch.incomplete) and complete
                if batch.last:
                    self._incomplete = not complete
                    self._observer.usage_saved(monotonic() - began, complete=complete)
                    return complete
        except StoreUnavailable as error:
            self._late = True
            self._tell(error)
            return self._failed(error)

    async def _save_batch(self, source: UsageSource, usage: UsageStore) -> UsageBatch | None:
        """The next batch, saved; None where another worker saves."""
        async with usage.exclusive_saver() as save:
            if save is None:
                return None
            batch = await source.read(MARKS_PER_BATCH_MAX, self._position)
            # Where this fails, the next one begins behind it, so that marks which stay do not hide the others.
            self._position = 0 if batch.last else batch.position + len(batch.marks)
            await save(batch.counted, batch.credits_used)
        position = await source.acknowledge(batch)  # without this, the same is saved once more, which changes nothing
        self._position = 0 if batch.last else position
        return batch

    def _worked(self) -> None:
        self._late = False
        if self._told and not self._incomplete:
            self._told = ""
            self._observer.usage_kept(None)

    def _tell(self, error: StoreUnavailable) -> None:
        """Tells once why a store that is there takes nothing."""
        if error.reason in REFUSED and error.reason != self._told:
            self._told = error.reason
            self._observer.usage_kept(error)

    async def _completed(self, incomplete: Incomplete) -> bool:
        try:
            if self._complete is None:
                return True
            return await bounded_call(self._complete(incomplete), CALL_TIMEOUT_SECONDS, POSTGRESQL)
        except StoreUnavailable as error:  # others are saved all the same
            self._incomplete = True
            self._tell(error)
            return self._failed(error)

    def _failed(self, error: StoreUnavailable) -> bool:
        self._observer.store_failed(POSTGRESQL if error.store == POSTGRESQL else REDIS, error.reason)
        return False
