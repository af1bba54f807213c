"""Hand-made stores for tests of the core and the service: they keep what they are given, and fail on demand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from time import monotonic
from typing import Generic, TypeVar
from uuid import UUID

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.core.changes import Change, EntityRef
from extauthz.core.check_result import CheckResult
from extauthz.core.credentials import Credential, KeyFormat, Pepper
from extauthz.core.decision import Decision
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.failure import OnRedisDown
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.ports import POSTGRESQL, REDIS, Layer, Mark, SpendCall, Store
from extauthz.core.ports import Cache as Kind
from extauthz.core.reason import Reason
from extauthz.core.rejections import Rejected
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Route, RouteTable
from extauthz.core.spend import (
    MICRO,
    NOTHING_HAPPENED,
    NotApplied,
    Owner,
    Row,
    Spend,
    Spent,
)
from extauthz.core.tenants import Tenant
from extauthz.core.token_bucket import State, spend
from extauthz.core.usage import Seed
from extauthz.service.check.authenticate import ApiKeys, Authentication
from extauthz.service.check.fast import FastChecks
from extauthz.service.check.pipeline import CheckService
from extauthz.service.check.rate_limit import RateLimit
from extauthz.service.check.remembered import Memory, RememberedKeys
from extauthz.service.directory.invalidation import Freshness, Invalidations
from extauthz.service.directory.known_records import Known
from extauthz.service.directory.local_cache import LocalCache
from extauthz.service.directory.lookup import LocalCaches, Lookup, Stores
from extauthz.service.directory.negative_cache import REFUSALS_MAX, NegativeCache
from extauthz.service.directory.row_formats import KeyRows, TenantRows
from extauthz.service.directory.tiers import CacheContext, CachePolicy
from extauthz.service.limits.limiter import Limiter
from extauthz.service.limits.restore import CounterRestorer
from extauthz.service.store_breaker import StoreBreaker, store_breaker
from extauthz.service.usage.last_used import LastUsed
from extauthz.service.usage.rejections import Rejections
from tests.servers.recording_observer import RecordingObserver

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
KEY_FORMAT = KeyFormat(prefix="xa", env="live", peppers=[Pepper("new", b"n" * 32), Pepper("old", b"o" * 32)])
SECRET = KEY_FORMAT.issue(b"\x07" * 20)
NEW_DIGEST, OLD_DIGEST = KEY_FORMAT.digest(SECRET).digests
TENANT = Tenant("org-1", "pro", "active", Limits(Rate(10, 1), 20, 1000, None), NOW, 7, "plan-1")
KEY = ApiKey("key-1", TENANT.id, {"customer": frozenset({"read"})}, None, None, None, NOW, 7, TENANT, NEW_DIGEST)
ROUTES = (
    Route("/public/**", public=True),
    Route("/public/search", public=True, rate="1/s", burst=2),
    Route("/api/beta/**", resource="customer", limits="shadow"),
    Route("/api/{resource}/**"),
    Route("/api/reports/**", resource="report", mode="read", cost=15),
    Route("/api/vault/**", resource="customer", cache=False),
)


Asked = TypeVar("Asked")
Record = TypeVar("Record", bound=ApiKey | Tenant)


class Failing:
    """A store whose calls raise `error`, if there is one; it counts them."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0

    def called(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


class Records(Failing, Generic[Record]):
    """Records by name. `gates`: a call waits for the one of its kind, `find`, `get` or `put`, before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, Record] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.entered = asyncio.Semaphore(0)

    async def pass_gate(self, name: str) -> None:
        if name in self.gates:
            self.entered.release()
            await self.gates[name].wait()


class Source(Records[Record], Generic[Asked, Record]):
    """The permanent store of records. A corrupt record is an answer here, and a failure in a cache."""

    at_once = 100

    def __init__(self, find: Callable[[dict[str, Record], Asked], Record | None]) -> None:
        super().__init__()
        self.asked: list[list[Asked]] = []
        self._find = find

    async def find(self, asked: Sequence[Asked], now: float) -> list[Record | StoreCorrupt | None]:
        self.asked.append(list(asked))
        if isinstance(self.error, StoreCorrupt):
            self.calls += 1
            return [self.error for _ in asked]
        self.called()
        found = [_read_at(self._find(self.held, each), now) for each in asked]
        await self.pass_gate("find")
        return list(found)


class Cache(Records[Record], Generic[Asked, Record]):
    """The cache that all processes share; it drops nothing by itself."""

    def __init__(
        self, find: Callable[[dict[str, Record], Asked], Record | None], name: Callable[[Record], str]
    ) -> None:
        super().__init__()
        self.finds = 0
        self._find = find
        self._name = name

    async def find(
        self, asked: Sequence[Asked], now: float, *, ended: bool = False
    ) -> list[Record | StoreCorrupt | None]:
        self.finds += 1
        if isinstance(self.error, StoreCorrupt):
            return [self.error for _ in asked]
        if self.error is not None:
            raise self.error
        found = [self._find(self.held, each) for each in asked]
        await self.pass_gate("get")
        return [None if each is None or not (ended or now < each.ends_at) else each for each in found]

    async def put(self, records: Sequence[Record], now: float) -> None:  # noqa: ARG002 - a fake drops nothing
        await self.pass_gate("put")
        self.calls += 1
        self.held |= {self._name(record): record for record in records}


def key_of(held: dict[str, ApiKey], asked: Credential) -> ApiKey | None:
    return next((held[digest] for digest in asked.digests if digest in held), None)


def tenant_of(held: dict[str, Tenant], asked: str) -> Tenant | None:
    return held.get(asked)


def _read_at(record: Record | None, now: float) -> Record | None:
    if isinstance(record, ApiKey):
        return replace(record, loaded_at=now, tenant=replace(record.tenant, loaded_at=now))
    return None if record is None else replace(record, loaded_at=now)


def row_of(result: Spent | NotApplied | StoreUnavailable) -> Row | StoreUnavailable:
    """A result in the form of a store's row."""
    if isinstance(result, StoreUnavailable):
        return result
    if isinstance(result, NotApplied):
        return ({why: number for number, why in NOTHING_HAPPENED.items()}[result.why], *11 * [0])
    return result.row


class LimitGate(asyncio.Event):
    """Where calls wait for their answers until it is set."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[Callable[[], None]] = []

    def answer(self, answer: Callable[[], None]) -> None:
        """Answers in a later turn of the loop, and not before the gate is set."""
        if self.is_set():
            asyncio.get_running_loop().call_soon(answer)
        else:
            self._held.append(answer)

    def set(self) -> None:
        super().set()
        held, self._held = self._held, []
        for each in held:
            self.answer(each)


class LimitsInMemory(Failing):
    """LimitStore on the reference arithmetic, by a clock that the test sets (Unix seconds).

    A call waits for `gate`; `entered` counts what the calls ask. Rows of `first` are answered before anything is spent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.states: dict[Owner, State] = {}
        self.gate = LimitGate()
        self.gate.set()
        self.entered = asyncio.Semaphore(0)
        self.first: list[NotApplied] = []

    async def connect(self) -> None:
        """There is a connection."""

    def begin(
        self,
        asked: Sequence[Spend],
        marks: Sequence[Mark],  # noqa: ARG002 - there is no usage flush
        call: SpendCall,
    ) -> Callable[[], None]:
        def answer() -> None:
            try:
                results = self._results(asked)
            except StoreUnavailable as error:
                call.failed(error)
            else:
                call.answered(int(self.now * MICRO), [row_of(each) for each in results])

        self.gate.answer(answer)
        for _ in asked:
            self.entered.release()
        return lambda: None

    async def spend(self, asked: Sequence[Spend]) -> list[Spent | NotApplied | StoreUnavailable]:
        return self._results(asked)

    def _results(self, asked: Sequence[Spend]) -> list[Spent | NotApplied | StoreUnavailable]:
        self.called()
        return [self.first.pop(0) if self.first else self._spend(one) for one in asked]

    def _spend(self, asked: Spend) -> Spent | NotApplied:
        return spend(self.states.setdefault(asked.owner, State()), asked, int(self.now * MICRO))

    async def seed(self, tenant_id: str, seeds: Sequence[Seed] | None) -> None:
        """They are always there."""


class Watch(RecordingObserver):
    """A RecordingObserver of a whole service. `back` is set from the moment a store is reported up."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions: list[tuple[str, Decision]] = []
        self.reasons: list[tuple[str, Reason]] = []  # of all checks, also of those that were only tallied
        self.limited = 0  # checks whose limits were asked, as far as stages are measured
        self.in_shadow: list[Reason] = []
        self.back = asyncio.Event()
        self.ages: dict[Kind, list[float | None]] = {"api_key": [], "tenant_quota": []}
        self.leases: list[tuple[str, int]] = []

    def decided(self, result: CheckResult) -> None:
        assert result.seconds >= 0
        self.decisions.append((result.dialect, result.decision))
        self.reasons.append((result.dialect, result.decision.reason))
        self.limited += result.identified_after > 0

    def tally(self, dialect: str) -> "Tallied":
        """Counts checks of a dialect of which there is no CheckResult."""
        return Tallied(self, dialect)

    def cache_read(self, cache: Kind, layer: Layer | None, age: float | None, times: int = 1) -> None:
        super().cache_read(cache, layer, age, times)
        self.ages[cache] += times * [age]

    def shadowed(self, reason: Reason) -> None:
        self.in_shadow.append(reason)

    def leased(self, operation: str, units: int) -> None:
        self.leases.append((operation, units))

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        super().store_changed(store, up=up, reason=reason)
        (self.back.set if up else self.back.clear)()


class Tallied:
    """A CheckTally that reports to a Watch."""

    def __init__(self, watch: Watch, dialect: str) -> None:
        self._watch = watch
        self._dialect = dialect
        self.tokens = 0

    def limited(self, seconds: float, identified_after: float, tokens: int) -> None:
        assert 0 <= identified_after <= seconds
        self.tokens += tokens
        self._watch.limited += 1
        self._watch.reasons.append((self._dialect, Reason.ALLOW))

    def refused(self, reason: Reason, seconds: float, identified_after: float) -> None:
        assert 0 <= identified_after <= seconds
        self._watch.limited += 1
        self._watch.reasons.append((self._dialect, reason))

    def decided(self, reason: Reason, seconds: float) -> None:
        assert seconds >= 0
        self._watch.reasons.append((self._dialect, reason))


class RejectedRows:
    """A RejectionStore in memory. `away`: it fails. `old`: how many batches of old rows can be deleted."""

    def __init__(self) -> None:
        self.batches: dict[UUID, Sequence[Rejected]] = {}
        self.away = False
        self.forgotten: list[int] = []
        self.old = 0

    async def add(self, batch_id: UUID, rejected: Sequence[Rejected]) -> None:
        self.batches[batch_id] = rejected
        if self.away:
            raise StoreUnavailable(POSTGRESQL, "connection")

    async def delete_old(self, days: int) -> bool:
        self.forgotten.append(days)
        self.old -= 1
        return self.old > 0


class Notes:
    """A Meter that records its calls."""

    def __init__(self) -> None:
        self.noted: list[tuple[Spend, tuple[int, ...], Reason]] = []

    def note(self, asked: Spend, row: Row, reason: Reason) -> None:
        self.noted.append((asked, (*row[2:4], *row[6:8]), reason))


class FakeService:
    """A check service with all that it needs. `KEY` is in PostgreSQL under the digest of `SECRET`; caches are empty."""

    def __init__(
        self,
        *,
        on_redis_down: OnRedisDown = OnRedisDown.OPEN,
        cache_keys: bool = True,
        charge_once: bool = False,
        routes: Sequence[Route] = ROUTES,
        refusals_max: int = REFUSALS_MAX,
    ) -> None:
        self.watch = Watch()
        self.keys = Source[Credential, ApiKey](key_of)
        self.key_cache = Cache[Credential, ApiKey](key_of, lambda key: key.digest)
        self.tenants = Source[str, Tenant](tenant_of)
        self.tenant_cache = Cache[str, Tenant](tenant_of, lambda tenant: tenant.id)
        self.limits = LimitsInMemory()
        self.away: set[Store] = set()
        self.postgresql, self.redis = self._guard(POSTGRESQL), self._guard(REDIS)
        stores = Stores(
            keys=self.keys,
            key_cache=self.key_cache,
            tenants=self.tenants,
            tenant_cache=self.tenant_cache,
            postgresql=self.postgresql,
            redis=self.redis,
        )
        self.meter = Notes()
        self.rejected = RejectedRows()
        self.rejections = Rejections(self.rejected, kept_days=30, hide=KEY_FORMAT.hide, observer=self.watch)
        restorer = CounterRestorer(self.limits, None, redis=self.redis, postgresql=self.postgresql)
        self.limiter = Limiter(self.limits, keeps_usage=False, restorer=restorer, redis=self.redis, observer=self.watch)
        self.now = NOW
        self.transaction = KEY.version
        self.invalidations, self.freshness = Invalidations(seconds=720), Freshness()
        self.last_used = LastUsed(None)
        remembered = RememberedKeys()
        context = CacheContext(
            self.postgresql, self.redis, self.invalidations, self.freshness, self.watch, clock=lambda: self.now
        )
        keys: LocalCache[Credential, ApiKey] = LocalCache(
            "api_key",
            rows=KeyRows(),
            policy=CachePolicy(120, 600),
            cache_context=context,
            refused=NegativeCache(at_most=refusals_max),
            evicted=remembered.drop,
        )
        tenants: LocalCache[str, Tenant] = LocalCache(
            "tenant_quota", rows=TenantRows(), policy=CachePolicy(30, 720), cache_context=context
        )
        self.lookup = Lookup(stores, context, last_used=self.last_used, caches=LocalCaches(keys, tenants, cache_keys))
        self.limiting = RateLimit(
            self.limiter, self.meter, on_redis_down=on_redis_down, charge_once=charge_once, observer=self.watch
        )
        self.authentication = Authentication([ApiKeys(KEY_FORMAT, self.lookup)])
        self.service = CheckService(
            routes=RouteTable.compile(routes, {"customers": "customer"}),
            authentication=self.authentication,
            limiting=self.limiting,
            observers=(self.watch, self.rejections),
        )
        self.fast = FastChecks(
            self.service,
            Memory(self.service, self.authentication, Known(self.lookup), of_keys=remembered),
            limiter=self.limiter,
            limiting=self.limiting,
            meter=self.meter,
        )
        self.store(KEY)

    def _guard(self, store: Store) -> StoreBreaker:
        async def probe() -> None:
            if store in self.away:
                raise StoreUnavailable(store, "connection")

        return store_breaker(
            store, policy=CallPolicy(timeout=5, max_concurrency=10, cancel=True), probe=probe, observer=self.watch
        )

    async def lose(self, guard: StoreBreaker) -> None:
        """The store goes away for good: one call fails, and so does every attempt to reach it again."""

        async def fail() -> None:
            raise StoreUnavailable(guard.name, "connection")

        self.away.add(guard.name)
        with suppress(StoreUnavailable):
            await guard.run(fail, monotonic() + 5)

    def store(self, key: ApiKey) -> None:
        """Puts the key and its organization into PostgreSQL."""
        self.keys.held[key.digest] = key
        self.tenants.held[key.tenant.id] = key.tenant

    def change(self, key: ApiKey, *things: EntityRef) -> None:
        """Stores a key that is read with a higher number from now on, and notifies of the change of `things`."""
        self.transaction += 1
        self.store(replace(key, version=self.transaction, tenant=replace(key.tenant, version=self.transaction)))
        for thing in things:
            self.invalidations.apply(Change(thing, self.transaction))

    async def ask(
        self,
        path: str = "/api/customers/7",
        *authorization: str,
        method: str = "GET",
        now: float | None = None,
        patience: float = 5,
        request_id: str = "",
        client_address: str = "",
        host: str = "api.example.com",
    ) -> Decision:
        """The decision for a request with the stored key, or with other `Authorization` headers ("" for none).

        `patience` is the seconds until its deadline.
        """
        if now is None:
            self.now += 0.001
        sent = authorization or (f"Bearer {SECRET}",)
        started = monotonic()
        request = CheckRequest(
            dialect="envoy",
            method=method,
            path=path,
            host=host,
            authorization=() if sent == ("",) else sent,
            request_id=request_id,
            client_address=client_address,
            now=self.now if now is None else now,
            started=started,
            deadline=started + patience,
        )
        return (await self.service.check(request)).decision


@asynccontextmanager
async def open_house(
    *,
    on_redis_down: OnRedisDown = OnRedisDown.OPEN,
    cache_keys: bool = True,
    charge_once: bool = False,
    routes: Sequence[Route] = ROUTES,
    refusals_max: int = REFUSALS_MAX,
) -> AsyncIterator[FakeService]:
    """A FakeService whose stores were probed."""
    fake_service = FakeService(
        on_redis_down=on_redis_down,
        cache_keys=cache_keys,
        charge_once=charge_once,
        routes=routes,
        refusals_max=refusals_max,
    )
    guards = (fake_service.postgresql, fake_service.redis)
    for guard in guards:
        await guard.start()
    fake_service.freshness.flowing(True)
    try:
        yield fake_service
    finally:
        await fake_service.limiter.close()
        await fake_service.lookup.close()
        for guard in guards:
            await guard.close()
