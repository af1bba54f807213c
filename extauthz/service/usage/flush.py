"""What is charged and refused is written down for bills, behind the checks: nobody waits for it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS, Observer, UsageLog, UsageStore
from extauthz.core.reason import Reason
from extauthz.core.spend import InWindows, Spend
from extauthz.core.usage import Counted, Due
from extauthz.service.limits.restore import patiently
from extauthz.service.usage.refused_counts import RefusedCounts
from extauthz.service.usage.thresholds import Thresholds

ADD_EVERY = 1.0  # seconds; refusals that a killed process loses
SAVE_EVERY = 10.0  # seconds; charges that are forgiven when Redis loses its memory
AT_ONCE = 2000  # marks in one transaction
PATIENCE, SAVE_PATIENCE = 5.0, 30.0  # seconds for one call; for one transaction with many rows
# Why a store that is there takes nothing. While it is away, that is told already.
REFUSED = frozenset({"read_only", "disk_full", "authentication", "refused", "client", "memory"})
LAST_PATIENCE, AGAIN_AFTER = 1.0, 0.25  # seconds at the end, after which nothing is tried again; seconds between


class UsageFlush:
    """Saves charges, adds refusals, announces thresholds. `log`, `usage` and `complete` None: nobody keeps usage.

    Charges are in Redis until they are saved, so every worker tries, and one at a time does it. A failure says nothing
    of whether the stores are fit for checks, so no guard hears of it. `complete` is called whenever marks were read:
    it sees to tenants who were charged while nobody knew what was before, and says whether there were none.
    """

    def __init__(
        self,
        log: UsageLog | None,
        usage: UsageStore | None,
        *,
        complete: Callable[[], Coroutine[Any, Any, bool]] | None,
        observer: Observer,
    ) -> None:
        self._log = log
        self._usage = usage
        self._complete = complete
        self._observer = observer
        self._refusals = RefusedCounts()
        self._thresholds = Thresholds()
        self._late = False  # something could not be saved, and is tried again soon
        self._told = ""

    def note(self, asked: Spend, spent: InWindows, reason: Reason) -> None:
        """A spend was answered; `reason` is what was decided by it."""
        windows = asked.windows
        if self._usage is None or windows is None:
            return
        if reason is not Reason.ALLOW:
            self._refusals.note(asked.owner.id, asked.key_id, day=windows.days.dates[spent.day], reason=reason)
        self._thresholds.note(asked, windows, spent)

    async def keep_saving(self) -> None:
        """Writes everything down again and again, until cancelled."""
        saved_at = monotonic()
        while True:
            await asyncio.sleep(ADD_EVERY)
            await self.add()
            if self._late or monotonic() - saved_at >= SAVE_EVERY:
                saved_at = monotonic()
                await self.save()

    async def save_all(self) -> None:
        """Writes everything down once more at the end of a process, with a little patience. Charges are safe anyway."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_PATIENCE):
                while not (await self.add() and await self.save()):  # noqa: ASYNC110 - nobody would set an event
                    await asyncio.sleep(AGAIN_AFTER)

    async def add(self) -> bool:
        """Adds refusals and announces thresholds. False: a store failed, and all that is left waits."""
        if self._usage is None:
            return True
        try:
            for _ in range(self._refusals.batches):  # those that come meanwhile have time until the next call
                if (batch := self._refusals.next()) is not None:
                    await patiently(self._usage.add_refusals(*batch), PATIENCE, POSTGRESQL)
                    self._refusals.added()
            while events := self._thresholds.next():
                new = await patiently(self._usage.announce(events), PATIENCE, POSTGRESQL)
                self._thresholds.announced(events)
                for event in new:
                    self._observer.quota_threshold(event)
        except StoreUnavailable as error:
            return self._failed(error)
        return True

    async def save(self) -> bool:
        """Saves charges, unless somebody else is at it. False: something keeps its marks for the next time.

        A store failed, or what was counted while nobody knew what was before was not complete yet.
        """
        if self._log is None or self._usage is None:
            return True
        began, complete = monotonic(), True
        try:
            while True:
                due = await patiently(_save_some(self._log, self._usage), SAVE_PATIENCE, POSTGRESQL)
                self._worked()
                if due is None:
                    return complete
                complete = await self._completed() and complete
                if len(due.marks) < AT_ONCE:
                    self._observer.usage_saved(monotonic() - began, complete=complete)
                    return complete
        except StoreUnavailable as error:
            self._late = True
            if error.reason in REFUSED and error.reason != self._told:
                self._told = error.reason
                self._observer.usage_kept(error)
            return self._failed(error)

    def _worked(self) -> None:
        self._late = False
        if self._told:
            self._told = ""
            self._observer.usage_kept(None)

    async def _completed(self) -> bool:
        try:
            return self._complete is None or await patiently(self._complete(), PATIENCE, POSTGRESQL)
        except StoreUnavailable as error:  # others are saved all the same
            return self._failed(error)

    def _failed(self, error: StoreUnavailable) -> bool:
        self._observer.store_failed(POSTGRESQL if error.store == POSTGRESQL else REDIS, error.reason)
        return False


async def _save_some(log: UsageLog, usage: UsageStore) -> Due | None:
    """What was saved of all that is marked; None: somebody else is at it."""
    read: list[Due] = []

    async def unsaved() -> Sequence[Counted]:
        read.append(await log.unsaved(AT_ONCE))
        return read[-1].counted

    if not await usage.save(unsaved):
        return None
    await log.saved(read[-1])  # whoever dies before this saves the same once more, which changes nothing
    return read[-1]
