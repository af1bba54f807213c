"""Whether this process should be given traffic, and what it misses."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from extauthz.core.failure import OnRedisDown
from extauthz.service.store_breaker import StoreBreaker

OK = "ok"
LOOK_INTERVAL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Readiness:
    """`stores` names each store as `ok` or says what is wrong with it."""

    ready: bool
    draining: bool
    stores: dict[str, str]

    def to_json(self) -> dict[str, object]:
        """One JSON object."""
        status = "draining" if self.draining else "ready" if self.ready else "not ready"
        return {"status": status, **self.stores}


class Health:
    """Ready once PostgreSQL's schema and Redis were seen; a later loss is named but keeps traffic, because identity is
    cached and limits degrade. Where limits must not degrade, a loss of Redis ends it. `redis_evicting` is Redis's
    maxmemory-policy where that drops our keys, which is named; `usage_trouble` is why usage cannot be written down.
    """

    def __init__(
        self,
        *,
        postgresql: StoreBreaker,
        redis: StoreBreaker,
        on_redis_down: OnRedisDown,
        redis_evicting: Callable[[], str] = lambda: "",
        usage_trouble: Callable[[], str] = lambda: "",
    ) -> None:
        self._guards = (postgresql, redis)
        self._needs_redis = on_redis_down is OnRedisDown.CLOSED
        self._redis = redis
        self._redis_evicting = redis_evicting
        self._usage_trouble = usage_trouble
        self.draining = False

    async def until_ready(self, seconds: float) -> None:
        """Waits until traffic may come, at most so long."""
        for _ in range(round(seconds / LOOK_INTERVAL_SECONDS)):
            if self.readiness().ready:
                return
            await asyncio.sleep(LOOK_INTERVAL_SECONDS)

    def readiness(self) -> Readiness:
        """The state now; asks no store."""
        ready = all(guard.seen for guard in self._guards) and not self.draining
        if self._needs_redis and self._redis.trouble:
            ready = False
        stores = {str(guard.name): guard.detail or OK for guard in self._guards}
        if evicting := self._redis_evicting():
            stores["redis_maxmemory_policy"] = evicting
        if trouble := self._usage_trouble():
            stores["usage"] = trouble
        return Readiness(ready, self.draining, stores)
