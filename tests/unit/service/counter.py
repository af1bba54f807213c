"""A limiter and its restore of counters on stores in memory that wait, fail and lose data as a test says."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.core.calendar import UTC_CALENDAR
from extauthz.core.errors import StoreUnavailable
from extauthz.core.limits import Limits
from extauthz.core.ports import POSTGRESQL, REDIS, Mark, SpendCall, Store
from extauthz.core.spend import MICRO, NotApplied, Owner, Spend, Spent
from extauthz.core.token_bucket import State, spend
from extauthz.core.usage import ORGANIZATION, Seed, Span
from extauthz.service.limits.limiter import Limiter
from extauthz.service.limits.restore import MAX_RESTORED_TENANTS, QUERY_TENANTS_MAX, CounterRestorer, SeedQueries
from extauthz.service.store_breaker import store_breaker
from tests.unit.service.fakes import NOW, Failing, Watch, row_of

QUOTA = Limits(daily_quota=1000)


def spend_of(tenant_id: str = "org-1", *, cost: int = 1, key: str = "key-1", now: float = NOW) -> Spend:
    """What a request asks, with the windows round `now` (Unix seconds)."""
    return Spend(Owner("tenant", tenant_id), cost, QUOTA, UTC_CALENDAR, key_id=key).at(now)


ADDRESS = Spend(Owner("address", "site 203.0.113.7"), 1, QUOTA)


class Gate:
    """Where calls wait while it is shut; `entered` counts those that arrived."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Semaphore(0)

    async def passed(self) -> None:
        self.entered.release()
        await self.open.wait()


class Marks(Failing):
    """Records marks, and when they were set; no usage flush reads them here."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.gate = Gate()
        self.marked: list[list[Mark]] = []
        self._log = log

    def note(self, marks: Sequence[Mark]) -> None:
        """They have left for the store."""
        self._log.append("mark")
        self.marked.append(list(marks))

    async def answer(self) -> None:
        """Returns when they are set."""
        await self.gate.passed()
        self.called()


class Hashes(Failing):
    """LimitStore on the reference arithmetic. Tenants in `harmed` fail alone.

    Counters of those in `provisional` began without PostgreSQL; `known` is set when one is reconciled. `most` is how
    many tenants were restored at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.seed_gate = Gate()
        self.states: dict[Owner, State] = {}
        self.batches: list[list[Spend]] = []
        self.seeded: list[tuple[str, Sequence[Seed] | None]] = []
        self.provisional: set[str] = set()
        self.known: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.harmed: set[str] = set()
        self.log: list[str] = []
        self.marks = Marks(self.log)
        self.tasks: set[asyncio.Task[None]] = set()
        self.restorer = self.most = 0

    def state(self, owner: Owner) -> State:
        """The stored state of an owner; a tenant's has to be restored first."""
        return self.states.setdefault(owner, State(seeded=owner.kind == "address"))

    async def connect(self) -> None:
        """There is a connection."""

    def begin(self, asked: Sequence[Spend], marks: Sequence[Mark], call: SpendCall) -> Callable[[], None]:
        if self.error is not None and not isinstance(self.error, StoreUnavailable):
            raise self.error
        self.batches.append(list(asked))
        marked = asyncio.create_task(self._marked(marks, call)) if marks else None
        self.log.append("spend")
        task = asyncio.create_task(self._answered(asked, marked, call))
        self.tasks |= {task, marked or task}

        def leave() -> None:
            task.cancel()

        return leave

    async def spend(self, asked: Sequence[Spend]) -> list[Spent | NotApplied | StoreUnavailable]:
        await self.gate.passed()
        self.called()
        return [self._spent(one) for one in asked]

    def _marked(self, marks: Sequence[Mark], call: SpendCall) -> Coroutine[Any, Any, None]:
        self.marks.note(marks)

        async def answer() -> None:
            try:
                await self.marks.answer()
            except StoreUnavailable as error:
                call.unmarked(error)

        return answer()

    async def _answered(self, asked: Sequence[Spend], marked: "asyncio.Task[None] | None", call: SpendCall) -> None:
        try:
            results = await self.spend(asked)
            if marked is not None:
                await marked  # answers come in the order of the commands
        except StoreUnavailable as error:
            call.failed(error)
        else:
            call.answered(int(NOW * MICRO), [row_of(each) for each in results])

    def _spent(self, asked: Spend) -> Spent | NotApplied | StoreUnavailable:
        if asked.owner.id in self.harmed:
            return StoreUnavailable(REDIS, "memory")
        result = spend(self.state(asked.owner), asked, int(NOW * MICRO))
        provisional = asked.owner.id in self.provisional
        return result.as_provisional() if provisional and isinstance(result, Spent) else result

    async def seed(self, tenant_id: str, seeds: Sequence[Seed] | None) -> None:
        self.restorer += 1
        self.most = max(self.most, self.restorer)
        try:
            await self.seed_gate.passed()
        finally:
            self.restorer -= 1
        self.called()
        self.seeded.append((tenant_id, seeds))
        state = self.state(Owner("tenant", tenant_id))
        if state.seeded and tenant_id not in self.provisional:
            return
        state.seeded = True
        if seeds is None:
            self.provisional.add(tenant_id)
        else:
            self.provisional.discard(tenant_id)
            self.known[tenant_id].set()
        for seed in seeds or ():
            state.counters[seed.field] = state.counters.get(seed.field, 0) + seed.cost


class UsageStores(Failing):
    """UsageStore that has today's `cost` of every tenant. A query with one of `heavy` fails."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.cost = 10
        self.asked: list[list[str]] = []
        self.heavy: set[str] = set()

    async def seeds(self, wanted: Mapping[str, Sequence[Span]]) -> Mapping[str, Sequence[Seed]]:
        self.asked.append(list(wanted))
        await self.gate.passed()
        self.called()
        if self.heavy & set(wanted):
            raise StoreUnavailable(POSTGRESQL, "timeout")
        return {name: [Seed(spans[1].field, ORGANIZATION, self.cost, 1, 1)] for name, spans in wanted.items()}


class Counter:
    """A limiter with all that it needs; both stores are available."""

    def __init__(
        self,
        *,
        timeout: float = 5,
        restore_timeout: float = 5,
        query_tenants_max: int = QUERY_TENANTS_MAX,
        tenants_max: int = MAX_RESTORED_TENANTS,
    ) -> None:
        self.watch = Watch()
        self.hashes = Hashes()
        self.marks = self.hashes.marks
        self.books = UsageStores()
        self.away: set[Store] = set()
        policy = CallPolicy(timeout=timeout, max_concurrency=100, cancel=True, probe_interval=0.001)
        self.redis = store_breaker(REDIS, policy=policy, probe=lambda: self._probe(REDIS), observer=self.watch)
        self.postgresql = store_breaker(
            POSTGRESQL, policy=policy, probe=lambda: self._probe(POSTGRESQL), observer=self.watch
        )
        self.restorer = CounterRestorer(
            self.hashes,
            SeedQueries(self.books, tenants_max=query_tenants_max),
            redis=self.redis,
            postgresql=self.postgresql,
            timeout=restore_timeout,
            tenants_max=tenants_max,
        )
        self.limiter = Limiter(
            self.hashes,
            keeps_usage=True,
            restorer=self.restorer,
            redis=self.redis,
            observer=self.watch,
        )

    async def _probe(self, store: Store) -> None:
        if store in self.away:
            raise StoreUnavailable(store, "connection")

    async def spend(self, asked: Spend) -> Spent:
        """The result of a spend."""
        return (await self.limiter.spend(asked))[1]

    def ready(self, *tenants: str) -> None:
        """The counters of these tenants exist, at zero."""
        for tenant_id in tenants or ("org-1",):
            self.hashes.state(Owner("tenant", tenant_id)).seeded = True

    async def lose_books(self) -> None:
        """PostgreSQL goes away, and its circuit breaker opens."""
        self.away.add(POSTGRESQL)
        self.books.error = StoreUnavailable(POSTGRESQL, "connection")
        with suppress(StoreUnavailable):
            await self.postgresql.run(lambda: self.books.seeds({}))
        self.books.asked.clear()

    async def find_books(self) -> None:
        """PostgreSQL returns, and its circuit breaker closes."""
        self.away.clear()
        self.books.error = None
        async with asyncio.timeout(5):
            await self.watch.back.wait()


@asynccontextmanager
async def open_counter(**bounds: Any) -> AsyncIterator[Counter]:
    """A Counter whose stores were probed; `bounds` as Counter has them."""
    counter = Counter(**bounds)
    guards = (counter.redis, counter.postgresql)
    for guard in guards:
        await guard.start()
    try:
        yield counter
    finally:
        for gate in (counter.hashes.gate, counter.hashes.seed_gate, counter.books.gate):
            gate.open.set()
        await counter.limiter.close()
        for guard in guards:
            await guard.close()


def peek(asked: Spend) -> Spend:
    """A look at the same limits."""
    return replace(asked, operation="peek")
