"""Hand-made stores for tests of the core and the service: they keep what they are given, and fail when told to."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from time import monotonic

from extauthz.core.credentials import KeyFormat, Pepper
from extauthz.core.decision import Decision
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.failure import OnRedisDown
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.ports import POSTGRESQL, REDIS, Cache, Store, StoredKey
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Route, RouteTable
from extauthz.core.spend import MICRO, Spend, Spent, State, spend
from extauthz.core.tenants import Tenant
from extauthz.service.check import CheckService
from extauthz.service.guard import Guard, Terms
from extauthz.service.lookup import Lookup, Stores

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
KEY_FORMAT = KeyFormat(prefix="xa", env="live", peppers=[Pepper("new", b"n" * 32), Pepper("old", b"o" * 32)])
SECRET = KEY_FORMAT.issue(b"\x07" * 20)
NEW_DIGEST, OLD_DIGEST = KEY_FORMAT.digest(SECRET).digests
TENANT = Tenant("org-1", "pro", "active", Limits(Rate(10, 1), 20, 1000, None), NOW)
KEY = ApiKey("key-1", TENANT.id, {"customer": frozenset({"read"})}, None, None, None, NOW, TENANT)
ROUTES = (
    Route("/public/**", public=True),
    Route("/api/{resource}/**"),
    Route("/api/reports/**", resource="report", mode="read", cost=15),
    Route("/api/vault/**", resource="customer", cache=False),
)


class Failing:
    """A store whose reads raise `error`, if there is one; it counts its calls."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0

    def called(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


class Keys(Failing):
    """KeySource and KeyCache at once; by digest."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, ApiKey] = {}

    async def find(self, digests: Sequence[str], now: float) -> StoredKey | None:
        self.called()
        found = next((digest for digest in digests if digest in self.held), None)
        return None if found is None else StoredKey(found, replace(self.held[found], loaded_at=now))

    async def get(self, digests: Sequence[str], now: float) -> ApiKey | None:
        found = await self.find(digests, now)
        return None if found is None else self.held[found.digest]

    async def put(self, digest: str, key: ApiKey, now: float) -> None:  # noqa: ARG002 - a fake forgets nothing
        self.calls += 1
        self.held[digest] = key

    async def drop(self, digests: Sequence[str]) -> None:  # noqa: ARG002 - nobody calls it
        raise AssertionError("a check drops nothing")


class Tenants(Failing):
    """TenantSource and TenantCache at once; by id."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, Tenant] = {}

    async def find(self, tenant_id: str, now: float) -> Tenant | None:  # noqa: ARG002 - a fake forgets nothing
        self.called()
        return self.held.get(tenant_id)

    get = find

    async def put(self, tenant: Tenant, now: float) -> None:  # noqa: ARG002 - a fake forgets nothing
        self.calls += 1
        self.held[tenant.id] = tenant

    async def drop(self, tenant_ids: Sequence[str]) -> None:  # noqa: ARG002 - nobody calls it
        raise AssertionError("a check drops nothing")


class LimitsInMemory(Failing):
    """LimitStore on the reference arithmetic, by a clock that the test sets (Unix seconds)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.states: dict[str, State] = {}

    async def spend(self, tenant_id: str, asked: Spend) -> Spent:
        self.called()
        state = self.states.setdefault(tenant_id, State(None, 0, 0, {}))
        return spend(state, asked, int(self.now * MICRO))


class Watch:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.decisions: list[tuple[str, Decision]] = []
        self.reads: Counter[tuple[Cache, bool]] = Counter()
        self.failures: Counter[tuple[Store, str]] = Counter()
        self.corrupt: list[StoreCorrupt] = []
        self.changes: list[tuple[Store, bool, str]] = []

    def decided(self, dialect: str, decision: Decision, seconds: float) -> None:
        assert seconds >= 0
        self.decisions.append((dialect, decision))

    def cache_read(self, cache: Cache, *, hit: bool) -> None:
        self.reads[cache, hit] += 1

    def store_failed(self, store: Store, reason: str) -> None:
        self.failures[store, reason] += 1

    def record_corrupt(self, error: StoreCorrupt) -> None:
        self.corrupt.append(error)

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        self.changes.append((store, up, reason))


class House:
    """A check service with all it stands on. `KEY` is in PostgreSQL under the digest of `SECRET`; caches are empty."""

    def __init__(self, *, on_redis_down: OnRedisDown = OnRedisDown.OPEN, cache_keys: bool = True) -> None:
        self.watch = Watch()
        self.keys, self.key_cache = Keys(), Keys()
        self.tenants, self.tenant_cache = Tenants(), Tenants()
        self.limits = LimitsInMemory()
        self.away: set[Store] = set()
        self.postgresql, self.redis = self._guard(POSTGRESQL), self._guard(REDIS)
        stores = Stores(
            keys=self.keys,
            key_cache=self.key_cache,
            tenants=self.tenants,
            tenant_cache=self.tenant_cache,
            limits=self.limits,
            postgresql=self.postgresql,
            redis=self.redis,
        )
        self.service = CheckService(
            routes=RouteTable.compile(ROUTES, {"customers": "customer"}),
            key_format=KEY_FORMAT,
            lookup=Lookup(stores, cache_keys=cache_keys, observer=self.watch),
            stores=stores,
            on_redis_down=on_redis_down,
            observer=self.watch,
        )
        self.store(KEY)

    def _guard(self, store: Store) -> Guard:
        async def probe() -> None:
            if store in self.away:
                raise StoreUnavailable(store, "connection")

        return Guard(store, terms=Terms(timeout=5, places=10, cancel=True), probe=probe, observer=self.watch)

    async def lose(self, guard: Guard) -> None:
        """The store goes away for good: one call fails, and so does every attempt to reach it again."""

        async def fail() -> None:
            raise StoreUnavailable(guard.store, "connection")

        self.away.add(guard.store)
        with suppress(StoreUnavailable):
            await guard.run(fail, monotonic() + 5)

    def store(self, key: ApiKey) -> None:
        """Puts the key and its organization into PostgreSQL."""
        self.keys.held[NEW_DIGEST] = key
        self.tenants.held[key.tenant.id] = key.tenant

    async def ask(
        self,
        path: str = "/api/customers/7",
        *authorization: str,
        method: str = "GET",
        now: float = NOW,
        patience: float = 5,
    ) -> Decision:
        """The decision for a request with the stored key, or with other `Authorization` headers ("" for none).

        `patience` is the seconds until its deadline.
        """
        sent = authorization or (f"Bearer {SECRET}",)
        started = monotonic()
        request = CheckRequest(
            dialect="envoy",
            method=method,
            path=path,
            host="api.example.com",
            authorization=() if sent == ("",) else sent,
            request_id="",
            client_address="",
            now=now,
            started=started,
            deadline=started + patience,
        )
        return await self.service.check(request)


@asynccontextmanager
async def open_house(*, on_redis_down: OnRedisDown = OnRedisDown.OPEN, cache_keys: bool = True) -> AsyncIterator[House]:
    """A house whose stores were seen."""
    house = House(on_redis_down=on_redis_down, cache_keys=cache_keys)
    guards = (house.postgresql, house.redis)
    for guard in guards:
        await guard.start()
    try:
        yield house
    finally:
        for guard in guards:
            await guard.close()
