"""The composition root: settings in, built rooms out, opened and closed by one exit stack."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from socket import socket
from typing import NamedTuple

from extauthz.app.admin_listener import Live, own_reports, private_listener, service_metrics
from extauthz.app.checks import CheckParts, Checks, open_tracing
from extauthz.app.decision_outputs import DecisionOutputs, decision_outputs
from extauthz.app.explain import explain_on
from extauthz.app.limits import keep_leases, leases_on, open_limiter, restorer_on
from extauthz.app.listeners import ADMIN, USAGE, dialect_names
from extauthz.app.lookup import open_lookup
from extauthz.app.stores import OpenStores, open_stores
from extauthz.app.usage import keep_writing, open_writers
from extauthz.config import Settings
from extauthz.core.failure import OnRedisDown
from extauthz.core.ports import POSTGRESQL, REDIS
from extauthz.service.check.limit_status import LimitStatusReader
from extauthz.service.check.remembered import RememberedKeys
from extauthz.service.health import Health
from extauthz.service.limits.lease_ledger import Ledger
from extauthz.service.limits.limiter import Limiter
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.tail import Send
from extauthz.transports.http.server import serve_checks
from extauthz.transports.http.usage import serve_usage


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers checks. It is to `drain` a while before it is left."""

    health: Health
    metrics: Metrics
    outputs: DecisionOutputs
    limiter: Limiter

    def drain(self) -> None:
        """Traffic may go elsewhere from now on; what is still answered asks the store for each check."""
        self.health.draining = True
        if self.limiter.leases is not None:
            self.limiter.leases.rest()


class WorkerSlot(NamedTuple):
    """What a worker is among several: its number, how it `send`s to their supervisor what live tails are to show, and
    what the worker before it has left of its leases.
    """

    number: int = 0
    send: Send | None = None
    ledger: Ledger | None = None


ALONE = WorkerSlot()


@asynccontextmanager
async def running(
    settings: Settings,
    sockets: Mapping[str, socket],
    *,
    patience: float = 0.0,
    settle: Callable[[], None] = lambda: None,
    slot: WorkerSlot = ALONE,
) -> AsyncIterator[Running]:
    """Checks on the sockets of `bind_all`, and the private listener on its own where it is among them.

    PostgreSQL and Redis may come later; until then the service is not ready. `patience` is the seconds that it waits
    for them before it answers anything: another instance may be answering meanwhile. `settle` is called when
    everything is there but the listeners.
    """
    async with AsyncExitStack() as stack:
        metrics = _open_metrics(stack, settings)
        outputs = decision_outputs(stack, settings, worker=slot.number, send=slot.send, drops=metrics.drops)
        opened = await _open_stores(stack, settings, metrics)

        restorer, leases = restorer_on(settings, opened), leases_on(settings, opened, metrics, slot.ledger)
        limiter = open_limiter(stack, opened, restorer=restorer, leases=leases, metrics=metrics)
        writers = open_writers(stack, settings, opened, restorer=restorer, metrics=metrics)
        keep_leases(stack, leases)  # given back before usage is written once more: it says what was served
        remembered = RememberedKeys()
        lookup = await open_lookup(
            stack, settings, opened, last_used=writers.last_used, evicted=remembered.drop, metrics=metrics
        )
        await keep_writing(stack, settings, opened, writers=writers, metrics=metrics)

        tracing = await open_tracing(stack, settings, metrics)
        checks = Checks(settings, CheckParts(lookup, remembered, limiter, writers, outputs, metrics, tracing))
        health = _health(settings, opened, metrics)
        await health.until_ready(patience)
        doors = checks.doors(health)
        settle()

        await stack.enter_async_context(serve_checks({sockets[name]: doors[name] for name in doors if name in sockets}))
        if USAGE.name in sockets:
            limit_status, deadline = LimitStatusReader(checks.authentication, limiter), settings.deadline_ms / 1000
            await stack.enter_async_context(serve_usage(limit_status, sockets[USAGE.name], deadline=deadline))
        if ADMIN.name in sockets:
            service = service_metrics(settings)
            listener = private_listener(
                settings,
                own_reports(health, metrics, service),
                sockets[ADMIN.name],
                metrics=service,
                organizations=lambda: metrics.tenants.organizations,
                live=Live(outputs.tails, explain_on(settings, opened, lookup.cache_context, live=lookup)),
            )
            await stack.enter_async_context(listener)
        yield Running(health, metrics, outputs, limiter)


def _open_metrics(stack: AsyncExitStack, settings: Settings) -> Metrics:
    """The metrics of this process. They look at the event loop until the stack is left."""
    metrics = Metrics(dialect_names(), tenants=settings.tenant_metrics or 0)
    stack.callback(metrics.lag.stop)
    metrics.lag.start()
    return metrics


async def _open_stores(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> OpenStores:
    """Both stores, watched by the metrics, until the stack is left."""
    opened = await open_stores(stack, settings, metrics, redis_says=metrics.redis_says)
    metrics.stores.watch(
        {POSTGRESQL: opened.pools, REDIS: opened.redis_connections},
        pools=(opened.pool,),
        breakers=(opened.stores.postgresql, opened.stores.redis),
    )
    return opened


def _health(settings: Settings, opened: OpenStores, metrics: Metrics) -> Health:
    """What says whether traffic may come."""
    return Health(
        postgresql=opened.stores.postgresql,
        redis=opened.stores.redis,
        on_redis_down=OnRedisDown(settings.rate_limit_on_redis_down),
        redis_evicting=lambda: metrics.redis_evicting,
        usage_trouble=lambda: metrics.usage_trouble,
    )
