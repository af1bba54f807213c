"""Whether this process should be given traffic, and what it misses."""

from dataclasses import dataclass

from extauthz.core.failure import OnRedisDown
from extauthz.service.guard import Guard

OK = "ok"


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
    cached and limits degrade. Where limits must not degrade, a loss of Redis ends it.
    """

    def __init__(self, *, postgresql: Guard, redis: Guard, on_redis_down: OnRedisDown) -> None:
        self._guards = (postgresql, redis)
        self._needs_redis = on_redis_down is OnRedisDown.CLOSED
        self._redis = redis
        self.draining = False

    def readiness(self) -> Readiness:
        """The state now; asks nobody."""
        ready = all(guard.seen for guard in self._guards) and not self.draining
        if self._needs_redis and not self._redis.up:
            ready = False
        stores = {str(guard.store): OK if guard.up else guard.trouble for guard in self._guards}
        return Readiness(ready, self.draining, stores)
