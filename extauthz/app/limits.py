"""How checks spend: what counters begin with, leases, and the limiter."""

import asyncio
from contextlib import AsyncExitStack

from extauthz.aio.tasks import cancel_until_done
from extauthz.app.stores import OpenStores
from extauthz.config import Settings
from extauthz.service.limits.lease_ledger import Ledger
from extauthz.service.limits.leases import Leases
from extauthz.service.limits.limiter import Limiter
from extauthz.service.limits.restore import CounterRestorer, SeedQueries
from extauthz.telemetry.metrics import Metrics


def restorer_on(settings: Settings, opened: OpenStores) -> CounterRestorer:
    """What counters begin with. The limiter ends it."""
    stores = opened.stores
    # The call that found no counters, and the one that charges after it, take their time from the deadline, too.
    milliseconds = min(settings.database_timeout_ms, settings.deadline_ms - 2 * settings.redis_timeout_ms)
    return CounterRestorer(
        opened.limits,
        None if opened.usage is None else SeedQueries(opened.usage),
        redis=stores.redis,
        postgresql=stores.postgresql,
        timeout=max(milliseconds, 1) / 1000,
    )


def open_limiter(
    stack: AsyncExitStack,
    opened: OpenStores,
    *,
    restorer: CounterRestorer,
    leases: Leases | None,
    metrics: Metrics,
) -> Limiter:
    """What checks spend by, until the stack is left."""
    limiter = Limiter(
        opened.limits,
        keeps_usage=opened.keeps_usage,
        restorer=restorer,
        redis=opened.stores.redis,
        observer=metrics,
        leases=leases,
    )
    stack.push_async_callback(limiter.close)
    return limiter


def leases_on(settings: Settings, opened: OpenStores, metrics: Metrics, ledger: Ledger | None) -> Leases | None:
    """What is taken ahead of checks; None where every check is to ask Redis."""
    if settings.rate_limit_leases == "off":
        return None
    keeps_usage, redis = opened.keeps_usage, opened.stores.redis
    return Leases(opened.limits, keeps_usage=keeps_usage, redis=redis, observer=metrics, ledger=ledger)


def keep_leases(stack: AsyncExitStack, leases: Leases | None) -> None:
    """Gives leases back when the stack is left, and at once those of this worker's predecessor."""
    if leases is not None:
        stack.push_async_callback(leases.close)
        stack.push_async_callback(cancel_until_done, [asyncio.create_task(leases.close_left())])
