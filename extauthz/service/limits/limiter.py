"""The limiter: checks that wait in the same turn of the loop spend together, in one call of Redis.

While a call is under way, checks are collected for the next one. `aio.batcher` does the same with a task for each
call; the limiter has its own queue because a call of it has neither task nor coroutine, and a check no object of its
own but its seat.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic

from extauthz.aio.tasks import TaskSet
from extauthz.aio.timeout_queue import TimeoutQueue
from extauthz.core.errors import StoreUnavailable
from extauthz.core.observers import Observer
from extauthz.core.ports import REDIS, LimitStore, Mark
from extauthz.core.spend import MICRO, Row, Spend, Spent, result_of
from extauthz.core.trace import Trace
from extauthz.service.limits.leases import Leases
from extauthz.service.limits.restore import CounterRestorer
from extauthz.service.limits.spend_call import Awaited, Seat, SharedCall, fail, refuse
from extauthz.service.store_breaker import StoreBreaker

SPEND_BATCH_MAX = 128  # in one call, so that it does not block Redis
SPEND_ATTEMPTS_MAX = 4  # while nothing is charged: no window fitted, or the counters were not there
MARK_SECONDS = 5.0  # for which a mark is good for further charges; Redis keeps marks for longer


class Limiter:
    """Spends by shared calls. What is charged is marked first, so that it is saved even if this process ends."""

    def __init__(
        self,
        limits: LimitStore,
        *,
        keeps_usage: bool,
        restorer: CounterRestorer,
        redis: StoreBreaker,
        observer: Observer,
        leases: Leases | None = None,
    ) -> None:
        """`keeps_usage`: charges are marked, because they are saved. `leases` None: every spend is sent."""
        self.leases = leases
        self._limits = limits
        self._keeps_usage = keeps_usage
        self._restorer = restorer
        self._redis = redis
        self._observer = observer
        self._waiting: list[Seat] = []
        self._under_way: set[SharedCall] = set()
        self._scheduled = False
        self._alone = False  # the last call carried one check: others need not be waited for in this turn of the loop
        self._timeouts: TimeoutQueue[SharedCall] = TimeoutQueue(lambda: redis.timeout, SharedCall.end_late)
        self._connecting = TaskSet()
        self._marked: set[Mark] = set()
        self._marked_until = 0.0
        self._marking = 1  # a spend with this number need not be looked up among the marked

    def take(self, seat: Seat) -> None:
        """Spend what a seat asks for; nothing is sent twice.

        The seat is told its outcome once: within this method where nothing can be sent, later otherwise.
        """
        waiting = self._waiting
        waiting.append(seat)
        if len(waiting) >= SPEND_BATCH_MAX:
            self._send()
        elif not self._scheduled and not self._under_way:
            if self._alone:
                self._send()
            else:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._send)

    async def spend(self, asked: Spend, trace: Trace | None = None) -> tuple[Spend, Spent]:
        """Return the spend with the windows that hold by Redis's clock, and its result; nothing is sent twice.

        Raises StoreUnavailable; the outcome is then unknown.
        """
        if self.leases is not None and (found := self.leases.take(asked)) is not None:
            return await self.go_on(asked, found, trace)
        return await self.go_on(asked, await self._sent(asked, trace), trace)

    async def go_on(self, asked: Spend, first: tuple[int, Row], trace: Trace | None = None) -> tuple[Spend, Spent]:
        """Return the same from the first outcome of a seat, with its time; it may be one that charged nothing."""
        now, row = first
        for attempt in range(1, SPEND_ATTEMPTS_MAX + 1):
            result = result_of(now, row)
            if isinstance(result, Spent):
                return asked, result
            asked = asked.at(now / MICRO)
            if result.why == "unseeded":
                self._drop_marks()  # Redis may have lost them as well
                await self._restored(asked, trace)
            if attempt < SPEND_ATTEMPTS_MAX:
                now, row = await self._sent(asked, trace)
        raise StoreUnavailable(REDIS, "clock")

    async def close(self) -> None:
        """End the calls under way."""
        self._timeouts.close()
        waiting, self._waiting = self._waiting, []
        error = StoreUnavailable(REDIS, "deadline")
        for call in list(self._under_way):
            call.end(error)
        fail(waiting, error)
        await self._connecting.close()
        await self._restorer.close()

    async def _restored(self, asked: Spend, trace: Trace | None) -> None:
        try:
            await self._restorer.seed(asked, trace)
        except StoreUnavailable as error:
            self._observer.store_failed(REDIS, error.reason)
            raise

    async def _sent(self, asked: Spend, trace: Trace | None) -> tuple[int, Row]:
        seat = Awaited(asked, trace)
        self.take(seat)
        return await seat.outcome

    def _send(self) -> None:
        """Send what waits, at most SPEND_BATCH_MAX of it; the rest waits for the answer."""
        self._scheduled = False
        waiting = self._waiting
        batch, self._waiting = waiting[:SPEND_BATCH_MAX], waiting[SPEND_BATCH_MAX:]
        batch = [seat for seat in batch if not seat.left]
        self._alone = len(batch) == 1
        if batch and not self._redis.up:
            self._observer.store_failed(REDIS, "down")
            refuse(batch, StoreUnavailable(REDIS, "down"))
        elif batch and not self._begin(batch):
            self._connecting.start(self._connect_and_begin(batch))

    def _begin(self, batch: Sequence[Seat]) -> bool:
        """Begin a call for these seats; return False where there is no connection."""
        asked = [seat.spend for seat in batch]
        call = SharedCall(self, batch, self._unmarked(asked) if self._keeps_usage else ())
        self._under_way.add(call)
        try:
            call.leave = self._limits.begin(asked, call.marks, call)
        except Exception as bug:  # noqa: BLE001 - any failure is given to the checks that wait
            call.end(bug)
            return True
        if call.leave is None:
            self._under_way.discard(call)
            self.unmark(call.marks)
            return False
        call.record()
        self._observer.limit_batch(len(batch))
        self._timeouts.watch(call)
        return True

    async def _connect_and_begin(self, batch: Sequence[Seat]) -> None:
        failure: Exception = StoreUnavailable(REDIS, "deadline")  # where the limiter is closed meanwhile
        begun = False
        try:
            await self._redis.run(self._limits.connect)
            batch = [seat for seat in batch if not seat.left]
            begun = not batch or self._begin(batch)
            failure = StoreUnavailable(REDIS, "connection")
        except Exception as error:  # noqa: BLE001 - any failure is given to the checks that wait
            failure = error
        finally:
            if not begun:
                refuse(batch, failure)

    def ended(self, call: SharedCall) -> None:
        """Note that a call is over: the next one is sent before its outcomes are told."""
        self._under_way.discard(call)
        if self._waiting and not self._scheduled:
            self._send()

    def failed(self, call: SharedCall, error: StoreUnavailable) -> None:
        """Note that a call failed as a whole: its marks may not be set."""
        self.unmark(call.marks)
        self._redis.failed(error)

    def refused(self, error: StoreUnavailable) -> None:
        """Note that Redis took a call and refused a part of it, as a full server or a replica does with every write."""
        self._observer.store_failed(REDIS, error.reason)
        self._redis.probe_soon()

    def unmark(self, marks: Sequence[Mark]) -> None:
        """Note that these may not be set: the next charge sets them again."""
        if marks:
            self._marked.difference_update(marks)
            self._marking += 1

    def _unmarked(self, asked: Sequence[Spend]) -> Sequence[Mark]:
        """Return the marks that are to be set before these are charged."""
        now = monotonic()
        if now >= self._marked_until:
            self._marked_until = now + MARK_SECONDS
            self._drop_marks()
        marking, new = self._marking, set[Mark]()
        for one in asked:
            if one.marked != marking and one.windows is not None and one.operation != "peek":
                one.marked = marking
                new.add((one.owner.id, one.key_id))
        new -= self._marked
        self._marked |= new
        return sorted(new)

    def _drop_marks(self) -> None:
        self._marked.clear()
        self._marking += 1
