"""The private listener: health, metrics, the API that manages keys; and what is read in the background for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from socket import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from extauthz.admin.api import AdminApi
from extauthz.admin.services import Explains
from extauthz.aio.tasks import cancel_until_done
from extauthz.app.directories import ManagedDirectory, directory
from extauthz.app.explain import ExplainAlone
from extauthz.app.management import open_services
from extauthz.backends.certificates import certificate_end
from extauthz.backends.postgres.connection import tls_address
from extauthz.config import Settings
from extauthz.core.ports import POSTGRESQL, REDIS, Store
from extauthz.service.background import forever
from extauthz.service.figures import FigureReader
from extauthz.service.health import Health, Readiness
from extauthz.service.tails import Tails
from extauthz.telemetry.exposition import Exposition
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.metrics_export import metrics_sent
from extauthz.telemetry.samples import take
from extauthz.telemetry.service import ServiceMetrics
from extauthz.transports.http.health import Reports, serve_admin

CERTIFICATE_CHECK_INTERVAL_SECONDS = 600.0  # between two looks at the stores' certificates
REDIS_PORT = 6379


class Live(NamedTuple):
    """What the API has of the workers: their live tails, and what explains decisions.

    `explain` None: it is done on stores that are opened for that.
    """

    tails: Tails
    explain: Explains | None = None


def service_metrics(settings: Settings, *, supervises: bool = False) -> ServiceMetrics:
    """The metrics of a service as a whole; `supervises`: this process has workers."""
    peppers = [pepper.name for pepper in settings.key_pepper]
    return ServiceMetrics(commit=settings.commit, peppers=peppers, supervises=supervises)


def own_reports(health: Health, metrics: Metrics, service: ServiceMetrics) -> Reports:
    """What one process alone has to report."""
    exposition = Exposition(metrics.registry, service.registry)
    turn = asyncio.Lock()  # several threads that render would keep the event loop from its own turn

    async def readiness() -> Readiness:
        return health.readiness()

    async def rendered(accept: str) -> tuple[bytes, str]:
        async with turn:
            parts = [metrics.samples(), take(service.registry)]
            exposition.describe(parts)
            # With series of a thousand organizations it takes longer than a check may wait.
            return await asyncio.to_thread(exposition.render, parts, accept)

    return Reports(readiness, rendered)


@asynccontextmanager
async def private_listener(
    settings: Settings,
    reports: Reports,
    sock: socket,
    *,
    metrics: ServiceMetrics,
    organizations: Callable[[], Collection[str]],
    live: Live,
) -> AsyncIterator[None]:
    """Answers operators on a bound socket until left. Meanwhile `metrics` is told what is read in the background,
    and what operators would scrape is sent by OTLP where that is asked for.

    `organizations` returns those that have metrics of their own.
    """
    async with AsyncExitStack() as stack:
        managed = isinstance(directory(settings), ManagedDirectory)
        services = await stack.enter_async_context(open_services(settings)) if managed else None
        works = [_certificates(settings, metrics)]
        if services is not None:
            figures = services.figures(webhook=bool(settings.webhook_url))
            works.append(FigureReader(figures, told=metrics.read, organizations=organizations).keep_reading)
        if url := settings.otlp_url("metrics"):
            every = settings.otel_metric_export_interval / 1000
            headers, attributes = settings.otlp_headers, settings.resource_attributes
            sending = metrics_sent(url, headers, attributes, every=every, read=reports.metrics)
            await stack.enter_async_context(sending)
        for work in works:
            stack.push_async_callback(cancel_until_done, [asyncio.create_task(forever(work))])
        tokens = {token.name: token.value for token in settings.admin_token}
        api = AdminApi(services, tokens, explain=live.explain or ExplainAlone(settings), tails=live.tails)
        await stack.enter_async_context(serve_admin(reports, sock, mount=api.mount))
        yield


def _certificates(settings: Settings, metrics: ServiceMetrics) -> Callable[[], Awaitable[None]]:
    """What looks again and again when the certificates of the stores end."""
    postgresql = tls_address(settings.database_url.get_secret_value())
    redis = urlsplit(settings.redis_url.get_secret_value())

    async def look() -> None:
        while True:
            ends: dict[Store, float | None] = {}
            if postgresql is not None:
                ends[POSTGRESQL] = await certificate_end(*postgresql, postgresql=True)
            if redis.scheme == "rediss" and redis.hostname:
                ends[REDIS] = await certificate_end(redis.hostname, redis.port or REDIS_PORT)
            # One that does not answer now had a certificate that still counts.
            metrics.certificates |= {store: end for store, end in ends.items() if end is not None}
            await asyncio.sleep(CERTIFICATE_CHECK_INTERVAL_SECONDS)

    return look
