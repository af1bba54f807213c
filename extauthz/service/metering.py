"""What is charged and refused is written down for bills, behind the checks: nobody waits for it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS, Observer, UsageLog, UsageStore
from extauthz.core.reason import Reason
from extauthz.core.spend import Spend, Spent
from extauthz.core.usage import Counted, Due
from extauthz.service.guard import end
from extauthz.service.refusals import Refusals
from extauthz.service.thresholds import Thresholds

ADD_EVERY = 1.0  # seconds; refusals that a killed process loses
SAVE_EVERY = 10.0  # seconds; charges that are forgiven when Redis loses its memory
AT_ONCE = 2000  # marks in one transaction
PATIENCE, SAVE_PATIENCE = 5.0, 30.0  # seconds for one call; for one transaction with many rows
LAST_PATIENCE, AGAIN_AFTER = 1.0, 0.25  # seconds at the end, after which nothing is tried again; seconds between
PROVISIONAL_MAX = 10_000  # tenants

T = TypeVar("T")


class Metering:
    """Saves charges, adds refusals, announces thresholds. `log` and `usage` None: nobody keeps usage.

    Charges are in Redis until they are saved, so every worker tries, and one at a time does it. A failure says nothing
    of whether the stores are fit for checks, so no guard hears of it. `complete` is told which tenants were charged
    while nobody knew what was before, once PostgreSQL is there: those who do not come again would never be saved.
    """

    def __init__(
        self,
        log: UsageLog | None,
        usage: UsageStore | None,
        *,
        complete: Callable[[Spend], None],
        observer: Observer,
    ) -> None:
        self._log = log
        self._usage = usage
        self._complete = complete
        self._observer = observer
        self._refusals = Refusals()
        self._thresholds = Thresholds()
        self._provisional: dict[str, Spend] = {}

    def note(self, asked: Spend, spent: Spent, reason: Reason) -> None:
        """A spend was answered; `reason` is what was decided by it."""
        windows = asked.windows
        if self._usage is None or windows is None:
            return
        if reason is not Reason.ALLOW:
            self._refusals.note(asked.owner.id, asked.key_id, day=windows.days.dates[spent.day], reason=reason)
        self._thresholds.note(asked, windows, spent)
        if spent.provisional and len(self._provisional) < PROVISIONAL_MAX:
            self._provisional[asked.owner.id] = asked

    async def keep_saving(self) -> None:
        """Writes everything down again and again, until cancelled."""
        saved_at = monotonic()
        while True:
            await asyncio.sleep(ADD_EVERY)
            await self.add()
            if monotonic() - saved_at >= SAVE_EVERY:
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
            while (batch := self._refusals.next()) is not None:
                await _patiently(self._usage.add_refusals(*batch), PATIENCE)
                self._refusals.added()
            while events := self._thresholds.next():
                new = await _patiently(self._usage.announce(events), PATIENCE)
                self._thresholds.announced(events)
                for event in new:
                    self._observer.quota_threshold(event)
        except StoreUnavailable as error:
            return self._failed(error)
        return True

    async def save(self) -> bool:
        """Saves charges, unless somebody else is at it. False: a store failed; what is not saved keeps its marks."""
        if self._log is None or self._usage is None:
            return True
        began = monotonic()
        try:
            while (due := await _patiently(_save_some(self._log, self._usage), SAVE_PATIENCE)) is not None:
                if len(due.marks) < AT_ONCE:
                    self._observer.usage_saved(monotonic() - began)
                    break
        except StoreUnavailable as error:
            return self._failed(error)
        provisional, self._provisional = self._provisional, {}
        for asked in provisional.values():
            self._complete(asked)
        return True

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


async def _patiently(call: Coroutine[Any, Any, T], seconds: float) -> T:
    """What a call returns. Raises StoreUnavailable where it takes too long; its outcome is then unknown."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise StoreUnavailable(POSTGRESQL, "timeout")
        return task.result()
    finally:
        await end([task])
