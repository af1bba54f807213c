"""The composition root: settings in, built rooms out, opened and closed by one exit stack. It alone knows all rooms."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from socket import socket
from typing import NamedTuple

from extauthz.app.admin_listener import Live, own_reports, private_listener, service_metrics
from extauthz.app.decision_outputs import DecisionOutputs, decision_outputs
from extauthz.app.explain import cache_times, explain_on, oldest_record
from extauthz.app.listeners import dialect_names, dialects
from extauthz.app.management import key_format
from extauthz.app.stores import OpenStores, open_stores
from extauthz.backends.postgres.change_feed import PostgresFeed
from extauthz.backends.webhook import webhook_receiver
from extauthz.config import Listen, Settings
from extauthz.core.failure import OnRedisDown
from extauthz.core.ports import POSTGRESQL, REDIS
from extauthz.service.background import forever
from extauthz.service.check.fast import FastChecks
from extauthz.service.check.limit_status import LimitStatusReader
from extauthz.service.check.pipeline import CheckService
from extauthz.service.check.rate_limit import RateLimit
from extauthz.service.check.remembered import Memory
from extauthz.service.directory.change_listener import Changes
from extauthz.service.directory.invalidation import Freshness, Invalidations
from extauthz.service.directory.known_records import Known
from extauthz.service.directory.lookup import Lookup
from extauthz.service.directory.tiers import CacheContext
from extauthz.service.guard import end
from extauthz.service.health import Health
from extauthz.service.limits.lease_ledger import Ledger
from extauthz.service.limits.leases import Leases
from extauthz.service.limits.limiter import Limiter
from extauthz.service.limits.reconcile import CounterReconciler
from extauthz.service.limits.restore import CounterRestorer
from extauthz.service.usage.flush import UsageFlush
from extauthz.service.usage.last_used import LastUsed
from extauthz.service.usage.rejections import Rejections
from extauthz.service.usage.webhooks import Webhook
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.tail import Send
from extauthz.telemetry.tracing import Tracing, sent_to
from extauthz.transports.http.fast_path import FastPath
from extauthz.transports.http.handler import CheckHandler
from extauthz.transports.http.listen import AddressTaken, SocketFiles, bind
from extauthz.transports.http.passed import PassedSockets
from extauthz.transports.http.server import CheckDoor, serve_checks
from extauthz.transports.http.usage import serve_usage

ADMIN, USAGE = "admin", "usage"


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


class Place(NamedTuple):
    """What a worker is among several: its number, how it `send`s to their supervisor what live tails are to show, and
    what the worker before it has left of its leases.
    """

    number: int = 0
    send: Send | None = None
    ledger: Ledger | None = None


ALONE = Place()


def bind_all(settings: Settings, passed: PassedSockets | None = None) -> tuple[dict[str, socket], SocketFiles]:
    """The sockets of every listener that is on, by its name, and the files that were made for them.

    A socket that was passed and has the address of a listener is that listener's. Raises AddressTaken.
    """
    names = (*dialect_names(), USAGE, ADMIN)
    on: dict[str, Listen] = {name: at for name in names if (at := getattr(settings, f"{name}_listen")) is not None}
    taken = {name: sock for name, at in on.items() if passed and (sock := passed.take(at.host, at.port, at.path))}
    if passed is not None:
        passed.check_all_taken()
    mode = int(settings.socket_mode, 8) if settings.socket_mode else None
    bound: dict[str, socket] = {}
    try:
        for name, at in on.items():
            if name not in taken:
                bound[name] = bind(at.host, at.port, at.path, mode=mode, group=settings.socket_group)
    except AddressTaken:
        SocketFiles(bound.values()).remove()
        raise
    return {name: taken.get(name) or bound[name] for name in on}, SocketFiles(bound.values())


@asynccontextmanager
async def running(
    settings: Settings,
    sockets: Mapping[str, socket],
    *,
    patience: float = 0.0,
    settle: Callable[[], None] = lambda: None,
    place: Place = ALONE,
) -> AsyncIterator[Running]:
    """Checks on the sockets of `bind_all`, and the private listener on its own where it is among them.

    PostgreSQL and Redis may come later; until then the service is not ready. `patience` is the seconds that it waits
    for them before it answers anything: another instance may be answering meanwhile. `settle` is called when
    everything is there but the listeners.
    """
    async with AsyncExitStack() as stack:
        metrics = Metrics(dialect_names(), tenants=settings.tenant_metrics or 0)
        stack.callback(metrics.lag.stop)
        metrics.lag.start()
        outputs = decision_outputs(stack, settings, worker=place.number, send=place.send, drops=metrics.drops)
        opened = await open_stores(stack, settings, metrics, redis_says=metrics.redis_says)
        metrics.stores.watch(
            {POSTGRESQL: opened.pools, REDIS: opened.redis_connections},
            pools=(opened.pool,),
            breakers=(opened.stores.postgresql, opened.stores.redis),
        )
        restorer = _seeding(settings, opened)
        leases = _leases(settings, opened, metrics, place.ledger)
        limiter = _limiter(stack, opened, restorer=restorer, metrics=metrics, leases=leases)
        last_used = LastUsed(None if opened.books is None else opened.books.use_log)
        usage_flush = _metering(opened, restorer, metrics)
        rejections = _rejections(settings, opened, metrics)
        stack.push_async_callback(_together, last_used.write_all, usage_flush.save_all, rejections.write_all)
        if leases is not None:
            stack.push_async_callback(leases.close)  # before usage is saved: it says what was served
            stack.push_async_callback(end, [asyncio.create_task(leases.close_left())])
        lookup = await _read_through(stack, settings, opened, last_used=last_used, metrics=metrics)
        kept = (usage_flush.keep_saving, rejections.keep_writing)
        await _keep_books(stack, settings, opened, works=kept, metrics=metrics)
        limiting = RateLimit(
            limiter,
            usage_flush,
            on_redis_down=OnRedisDown(settings.rate_limit_on_redis_down),
            charge_once=settings.charge_once,
            observer=metrics,
        )
        watchers = (*([metrics.tenants] if settings.tenant_metrics else []), *outputs.observers)
        tracing = await _tracing(stack, settings, metrics)
        check = CheckService(
            routes=settings.routes,
            key_format=key_format(settings),
            lookup=lookup,
            limiting=limiting,
            observers=(
                metrics,
                rejections,
                *([] if tracing is None else [tracing]),
                *watchers,
            ),
        )
        health = _health(settings, opened, metrics)
        await health.until_ready(patience)
        known = Known(lookup)
        metrics.checks.pull(known.count)
        fast = FastChecks(
            check,
            Memory(check, key_format(settings), known),
            limiter=limiter,
            limiting=limiting,
            meter=usage_flush,
            watchers=watchers,
        )
        doors: dict[socket, CheckDoor] = {}
        for name, dialect in dialects(settings).items():
            if name in sockets:
                handler = CheckHandler(
                    check,
                    dialect,
                    deadline=settings.deadline_ms / 1000,
                    health=health,
                    tracing=tracing,
                    reads_traceparent=bool(outputs.observers),
                )
                fast_path = None
                if settings.fast_path:
                    fast_path = FastPath(fast, handler, tally=metrics.tally(name), observer=rejections)
                    rejections.pull(fast_path.denials.count)
                doors[sockets[name]] = CheckDoor(handler, fast_path)
        settle()
        await stack.enter_async_context(serve_checks(doors))
        if USAGE in sockets:
            limit_status = LimitStatusReader(key_format(settings), lookup, limiter)
            deadline = settings.deadline_ms / 1000
            await stack.enter_async_context(serve_usage(limit_status, sockets[USAGE], deadline=deadline))
        if ADMIN in sockets:
            service = service_metrics(settings)
            reports = own_reports(health, metrics, service)
            listener = private_listener(
                settings,
                reports,
                sockets[ADMIN],
                metrics=service,
                organizations=lambda: metrics.tenants.organizations,
                live=Live(outputs.tails, explain_on(settings, opened, lookup.cache_context, live=lookup)),
            )
            await stack.enter_async_context(listener)
        yield Running(health, metrics, outputs, limiter)


def _seeding(settings: Settings, opened: OpenStores) -> CounterRestorer:
    """What counters begin with. The limiter ends it."""
    stores, books = opened.stores, opened.books
    return CounterRestorer(
        opened.limits,
        None if books is None else books.usage,
        redis=stores.redis,
        postgresql=stores.postgresql,
        # The call that found no counters, and the one that charges after it, take their time from the deadline, too.
        patience=max(min(settings.database_timeout_ms, settings.deadline_ms - 2 * settings.redis_timeout_ms), 1) / 1000,
    )


def _leases(settings: Settings, opened: OpenStores, metrics: Metrics, ledger: Ledger | None) -> Leases | None:
    """What is taken ahead of checks; None where every check is to ask Redis."""
    if settings.rate_limit_leases == "off":
        return None
    keeps_usage, redis = opened.books is not None, opened.stores.redis
    return Leases(opened.limits, keeps_usage=keeps_usage, redis=redis, observer=metrics, ledger=ledger)


def _limiter(
    stack: AsyncExitStack, opened: OpenStores, *, restorer: CounterRestorer, metrics: Metrics, leases: Leases | None
) -> Limiter:
    """How checks spend, until the stack is left."""
    keeps_usage, redis = opened.books is not None, opened.stores.redis
    limiter = Limiter(
        opened.limits, keeps_usage=keeps_usage, restorer=restorer, redis=redis, observer=metrics, leases=leases
    )
    stack.push_async_callback(limiter.close)
    return limiter


def _metering(opened: OpenStores, restorer: CounterRestorer, metrics: Metrics) -> UsageFlush:
    """What counts for the books what checks spend."""
    books = opened.books
    if books is None:
        return UsageFlush(None, None, complete=None, observer=metrics)
    complete = CounterReconciler(books.usage_log.provisional, books.tenants, restorer).complete
    return UsageFlush(books.usage_log, books.usage, complete=complete, observer=metrics)


def _rejections(settings: Settings, opened: OpenStores, metrics: Metrics) -> Rejections:
    """What counts refusals, so that they can be asked for."""
    return Rejections(
        None if opened.books is None else opened.books.rejections,
        kept_days=settings.rejections_kept_days,
        hide=key_format(settings).hide,
        observer=metrics,
    )


async def _tracing(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> Tracing | None:
    """What records checks and sends their spans, until the stack is left; None where tracing is off."""
    if not (url := settings.otlp_url("traces")):
        return None
    hide = key_format(settings).hide
    sending = sent_to(url, settings.otlp_headers, settings.resource_attributes, hide=hide)
    sender = await stack.enter_async_context(sending)
    metrics.drops.watch("spans", lambda: sender.dropped)
    return Tracing(settings.otel_traces_sampler, settings.otel_traces_sampler_arg, sender)


async def _keep_books(
    stack: AsyncExitStack,
    settings: Settings,
    opened: OpenStores,
    *,
    works: Sequence[Callable[[], Awaitable[None]]],
    metrics: Metrics,
) -> None:
    """Does `works`, which write down what was spent and refused, and tells of quotas, until the stack is left."""
    if opened.books is None:
        return
    works = list(works)
    if settings.webhook_url:
        receiver = await stack.enter_async_context(webhook_receiver(settings.webhook_url.get_secret_value()))
        secret = settings.webhook_secret.get_secret_value()
        works.append(Webhook(opened.books.events, receiver, secret=secret, observer=metrics).keep_delivering)
    for work in works:
        stack.push_async_callback(end, [asyncio.create_task(forever(work))])


async def _read_through(
    stack: AsyncExitStack, settings: Settings, opened: OpenStores, *, last_used: LastUsed, metrics: Metrics
) -> Lookup:
    """How checks read keys and organizations, and all that goes on behind them: until the stack is left."""
    stores, (keys, tenants) = opened.stores, cache_times(settings)
    freshness, invalidations = Freshness(), Invalidations(seconds=oldest_record(settings))
    lookup = Lookup(
        stores,
        CacheContext(stores.postgresql, stores.redis, invalidations, freshness, metrics),
        last_used=last_used,
        keys=keys,
        tenants=tenants,
        cache_keys=settings.api_key_cache_enabled,
    )
    feed = PostgresFeed(
        settings.notify_database_url.get_secret_value(),
        lately=None if settings.lookup_sql else max(keys.ttl, tenants.ttl),
        arrived=metrics.change_arrived,
    )
    changes = Changes(
        feed,
        invalidations=invalidations,
        freshness=freshness,
        shared=opened.invalidations,
        redis=stores.redis,
        observer=metrics,
    )
    for work in (changes.follow, lookup.keep_fresh, last_used.keep_writing):
        stack.push_async_callback(end, [asyncio.create_task(forever(work))])
    stack.push_async_callback(lookup.close)
    return lookup


def _health(settings: Settings, opened: OpenStores, metrics: Metrics) -> Health:
    """What says whether traffic may come."""
    return Health(
        postgresql=opened.stores.postgresql,
        redis=opened.stores.redis,
        on_redis_down=OnRedisDown(settings.rate_limit_on_redis_down),
        redis_evicting=lambda: metrics.redis_evicting,
        usage_trouble=lambda: metrics.usage_trouble,
    )


async def _together(*works: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(*(work() for work in works))
