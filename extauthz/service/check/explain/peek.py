"""What a spend would come to, by the limits as they are: nothing is taken, and no counter is begun."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from extauthz.core import token_bucket
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS, CounterReader, UsageStore
from extauthz.core.spend import MICRO, NotApplied, Spend, Spent, spans
from extauthz.core.trace import Trace
from extauthz.core.usage import Seed
from extauthz.service.limits.limiter import SPEND_ATTEMPTS_MAX
from extauthz.service.store_breaker import StoreBreaker
from extauthz.service.store_calls import bounded_call

COUNTERS_TIMEOUT_SECONDS = SEEDS_TIMEOUT_SECONDS = 5.0


class LimitPeek(Protocol):
    """What tells what spends would come to."""

    async def spend(self, asked: Sequence[Spend]) -> Sequence[Spent | NotApplied | StoreUnavailable]:
        """One result for each, in one call. Raises StoreUnavailable."""
        ...


class Peek:
    """Answers as a Limiter does by the limits of now, and remembers what it answered last.

    Counters that Redis does not have are worked out here, with what PostgreSQL has of them, as a check would begin
    them. `usage` None: no usage is kept, so counters begin with zero.
    """

    def __init__(
        self,
        limits: LimitPeek,
        counters: CounterReader,
        usage: UsageStore | None,
        *,
        redis: StoreBreaker,
        postgresql: StoreBreaker,
        clock: Callable[[], float],
    ) -> None:
        self.asked: Spend | None = None
        self.spent: Spent | None = None
        self.error: StoreUnavailable | None = None
        self._limits = limits
        self._counters = counters
        self._usage = usage
        self._redis = redis
        self._postgresql = postgresql
        self._clock = clock

    async def spend(
        self,
        asked: Spend,
        trace: Trace | None = None,  # noqa: ARG002 - it is not recorded
    ) -> tuple[Spend, Spent]:
        """What it would come to, and the spend with the windows that hold by Redis's clock. Raises StoreUnavailable."""
        self.asked = replace(asked, operation="peek").at(self._clock())
        try:
            self.asked, self.spent = await self._peek(self.asked)
        except StoreUnavailable as error:
            self.error = error
            raise
        return self.asked, self.spent

    async def _peek(self, asked: Spend) -> tuple[Spend, Spent]:
        for _ in range(SPEND_ATTEMPTS_MAX):
            result = await self._asked(asked)
            if isinstance(result, StoreUnavailable):
                raise result
            if isinstance(result, Spent):
                return asked, result
            asked = asked.at(result.now / MICRO)
            if result.why == "unseeded":
                result = await self._as_begun(asked, result.now)
                if isinstance(result, Spent):
                    return asked, result
        raise StoreUnavailable(REDIS, "clock")

    async def _asked(self, asked: Spend) -> "Spent | NotApplied | StoreUnavailable":
        return (await self._redis.run(lambda: self._limits.spend([asked])))[0]

    async def _as_begun(self, asked: Spend, now: int) -> Spent | NotApplied:
        """The same on the counters that a check would begin; provisional where PostgreSQL cannot say more of them."""
        seeds = await self._seeds(asked)
        if not self._redis.up:
            raise StoreUnavailable(REDIS, "down")
        # Not as a call of checks: an organization with many keys takes longer than they wait, and Redis is not away.
        state = await bounded_call(self._counters.beginning(asked, seeds or ()), COUNTERS_TIMEOUT_SECONDS, REDIS)
        state.provisional = seeds is None
        result = token_bucket.spend(state, asked, now)
        return result.as_provisional() if isinstance(result, Spent) and seeds is None else result

    async def _seeds(self, asked: Spend) -> Sequence[Seed] | None:
        """What PostgreSQL has of the counters; None where it is away."""
        if self._usage is None or asked.windows is None:
            return ()
        if not self._postgresql.up:
            return None
        try:
            wanted = {asked.owner.id: spans(asked.windows)}
            found = await bounded_call(self._usage.seeds(wanted), SEEDS_TIMEOUT_SECONDS, POSTGRESQL)
        except StoreUnavailable:
            return None
        return found.get(asked.owner.id, ())
