"""Checks that wait in the same turn of the loop spend together: one call, one result each."""

import asyncio
from collections.abc import Sequence
from time import monotonic

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import REDIS, LimitStore, Observer, UsageLog
from extauthz.core.spend import MICRO, Spend, Spent, Untaken
from extauthz.core.trace import Trace
from extauthz.service.guard import Guard, end
from extauthz.service.seeding import Seeding, another
from extauthz.service.store_calls import begin_call, end_call

AT_ONCE = 128  # in one call, so that Redis is not held
ATTEMPTS = 4  # nothing has happened before the next one: no window fitted, or the counters were not there
MARK_LASTS = 5.0  # seconds that a mark is good for further charges; who saves keeps marks for longer

_Result = Spent | Untaken | StoreUnavailable
_Waiting = tuple[Spend, "asyncio.Future[_Result]", Trace | None]


class Limiter:
    """Spends by way of one shared call. What is charged is marked first, so that it is saved whatever becomes of us."""

    def __init__(
        self, limits: LimitStore, log: UsageLog | None, *, seeding: Seeding, redis: Guard, observer: Observer
    ) -> None:
        self._limits = limits
        self._log = log
        self._seeding = seeding
        self._redis = redis
        self._observer = observer
        self._waiting: list[_Waiting] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._marked: set[tuple[str, str]] = set()
        self._marked_until = 0.0

    async def spend(self, asked: Spend, trace: Trace | None = None) -> tuple[Spend, Spent]:
        """What came of it, and the spend with the windows that hold by Redis's clock. Never sent twice.

        Raises StoreUnavailable; the outcome is then unknown.
        """
        for _ in range(ATTEMPTS):
            result = await self._sent(asked, trace)
            if isinstance(result, Spent):
                return asked, result
            if isinstance(result, StoreUnavailable):
                self._observer.store_failed(REDIS, result.reason)
                self._redis.doubt()  # a full server or a replica runs the script and refuses what it writes
                raise result
            asked = asked.at(result.now / MICRO)
            if result.why == "unseeded":
                self._marked.clear()  # Redis may have forgotten the marks as well
                await self._seeded(asked, trace)
        raise StoreUnavailable(REDIS, "clock")

    async def close(self) -> None:
        """Ends the calls under way."""
        await end(self._calls)
        await self._seeding.close()

    async def _seeded(self, asked: Spend, trace: Trace | None) -> None:
        try:
            await self._seeding.seed(asked, trace)
        except StoreUnavailable as error:
            self._observer.store_failed(REDIS, error.reason)
            raise

    def _sent(self, asked: Spend, trace: Trace | None) -> "asyncio.Future[_Result]":
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Result] = loop.create_future()
        self._waiting.append((asked, result, trace))
        if len(self._waiting) == 1:
            loop.call_soon(self._send)
        elif len(self._waiting) == AT_ONCE:
            self._send()
        return result

    def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        if batch:
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _call(self, batch: Sequence[_Waiting]) -> None:
        batch = [waiting for waiting in batch if not waiting[1].done()]  # who has left wants nothing
        if not batch:
            return
        asked = [one for one, _, _ in batch]
        self._observer.limit_batch(len(asked))
        call = begin_call(REDIS, "spend", [trace for _, _, trace in batch], len(batch))
        failure: Exception = StoreUnavailable(REDIS, "deadline")  # where we are closed meanwhile
        try:
            results = await self._redis.run(lambda: self._marked_and_spent(asked))
            end_call(call)
            for (_, waiter, _), result in zip(batch, results, strict=True):
                if not waiter.done():
                    waiter.set_result(result)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            failure = error
            end_call(call, error)
        finally:
            for _, waiter, _ in batch:
                if not waiter.done():
                    waiter.set_exception(another(failure))

    async def _marked_and_spent(self, asked: Sequence[Spend]) -> Sequence[_Result]:
        pairs = self._unmarked(asked)
        if not pairs or self._log is None:
            return await self._limits.spend(asked)
        _, results = await asyncio.gather(self._mark(self._log, pairs), self._limits.spend(asked))  # in one write
        return results

    def _unmarked(self, asked: Sequence[Spend]) -> list[tuple[str, str]]:
        now = monotonic()
        if now >= self._marked_until:
            self._marked.clear()
            self._marked_until = now + MARK_LASTS
        pairs = {(one.owner.id, one.key_id) for one in asked if one.windows is not None and one.operation != "peek"}
        pairs -= self._marked
        self._marked |= pairs
        return sorted(pairs)

    async def _mark(self, log: UsageLog, pairs: Sequence[tuple[str, str]]) -> None:
        known = False
        try:
            await log.mark(pairs)
            known = True
        except StoreUnavailable as error:
            self._observer.store_failed(REDIS, error.reason)
            self._redis.doubt()
        finally:
            if not known:  # nor is it where we are cancelled
                self._marked.difference_update(pairs)
