"""Explanations on a FakeService, and the state that must be the same before and after one."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Generic

from extauthz.core.decision import Decision
from extauthz.core.errors import StoreCorrupt
from extauthz.core.explanation import ExplainQuestion, Explanation, NamedKey, Step
from extauthz.core.failure import OnRedisDown
from extauthz.core.ports import UsageStore
from extauthz.core.routes import Route, RouteTable
from extauthz.core.spend import Spend
from extauthz.core.token_bucket import State
from extauthz.core.usage import Seed
from extauthz.service.check.authenticate import ApiKeys, Authentication
from extauthz.service.check.explain.explain import Explain, Ground
from extauthz.service.check.explain.findings import LookupParts
from extauthz.service.directory.local_cache import LocalCache
from extauthz.service.directory.lookup import Stores
from extauthz.service.directory.tiers import CacheContext, CachePolicy
from extauthz.transports.http.dialect import Dialect, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx
from tests.unit.service.fakes import KEY, KEY_FORMAT, NEW_DIGEST, ROUTES, Asked, Cache, FakeService, Record

DIALECTS: tuple[Dialect, ...] = (Envoy(Wording()), Nginx(Wording()), Forward(Wording()))


class _ReadOnly(Generic[Asked, Record]):
    """The same records as a cache that all processes share; nothing is written to it."""

    def __init__(self, cache: Cache[Asked, Record]) -> None:
        self._cache = cache

    async def find(
        self, asked: Sequence[Asked], now: float, *, ended: bool = False
    ) -> list[Record | StoreCorrupt | None]:
        return await self._cache.find(asked, now, ended=ended)

    async def put(self, records: Sequence[Record], now: float) -> None:
        """It is not kept."""


class NothingCounted:
    """A CounterReader: whatever Redis does not have begins at zero."""

    async def beginning(self, asked: Spend, seeds: Sequence[Seed]) -> State:  # noqa: ARG002 - there is nothing
        return State()


class Names:
    """Keys by their ids."""

    def __init__(self) -> None:
        self.known = {KEY.id: NamedKey(NEW_DIGEST, "new", "billing job", "xa_live_…abcd", "acme")}

    async def find(self, key_id: str) -> NamedKey | None:
        return self.known.get(key_id)


def explain_of(
    fake_service: FakeService,
    *,
    routes: Sequence[Route] = ROUTES,
    on_redis_down: OnRedisDown = OnRedisDown.OPEN,
    cache_keys: bool = True,
    live: bool = True,
    names: Names | None = None,
    usage: UsageStore | None = None,
) -> Explain:
    """Explains what the service would decide; `live`: in its own process, whose records are read."""
    stores = Stores(
        keys=fake_service.keys,
        key_cache=_ReadOnly(fake_service.key_cache),
        tenants=fake_service.tenants,
        tenant_cache=_ReadOnly(fake_service.tenant_cache),
        postgresql=fake_service.postgresql,
        redis=fake_service.redis,
    )
    around = CacheContext(
        fake_service.postgresql,
        fake_service.redis,
        fake_service.invalidations,
        fake_service.freshness,
        fake_service.watch,
        clock=lambda: fake_service.now,
    )
    return Explain(
        Ground(
            routes=RouteTable.compile(routes, {"customers": "customer"}),
            key_format=KEY_FORMAT,
            authentication=lambda lookup: Authentication([ApiKeys(KEY_FORMAT, lookup)]),
            peppers=frozenset({"new", "old"}),
            lookup=LookupParts(
                stores,
                around,
                CachePolicy(120, 600),
                CachePolicy(30, 720),
                cache_keys,
                fake_service.lookup if live else None,
            ),
            limits=fake_service.limits,
            counters=NothingCounted(),
            usage=usage,
            names=names,
            on_redis_down=on_redis_down,
            statuses={dialect.name: _status_of(dialect) for dialect in DIALECTS},
        )
    )


def _status_of(dialect: Dialect) -> Callable[[Decision], int]:
    return lambda decision: dialect.render(decision).status


def asked(path: str = "/api/customers/7", **more: Any) -> ExplainQuestion:
    """A question of a GET, by the host that FakeService.ask names."""
    return ExplainQuestion(**{"method": "GET", "path": path, "host": "api.example.com", **more})


def step(explanation: Explanation, name: str) -> Step:
    """One of its steps."""
    return next(each for each in explanation.steps if each.name == name)


def traces(fake_service: FakeService) -> Any:
    """All that a check leaves behind: charges, notes, counts, cached records and remembered results."""
    keys, tenants = (
        fake_service.lookup.keys.local,
        fake_service.lookup.tenants.local if fake_service.lookup.tenants else None,
    )
    held = [_held(keys), _held(tenants) if tenants is not None else None]
    return deepcopy(
        (
            {owner: state for owner, state in fake_service.limits.states.items() if state != State()},
            fake_service.key_cache.held,
            fake_service.tenant_cache.held,
            held,
            fake_service.watch.decisions,
            fake_service.watch.reads,
            fake_service.watch.in_shadow,
            fake_service.watch.corrupt,
            fake_service.meter.noted,
            len(fake_service.last_used),
            fake_service.rejections._counts,
        )
    )


def _held(local: LocalCache[Any, Any]) -> Any:
    entries = sorted(local.held._entries.items())
    return [(name, entry.record, entry.used_at, entry.epoch) for name, entry in entries], dict(local.refused._until)
