"""A whole extauthz that Prometheus scrapes, with customers and traffic that give every panel something to show."""

import asyncio
import base64
import os
import secrets
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time
from urllib.parse import quote, urlsplit

from extauthz.backends.postgres.pool import open_pool
from extauthz.backends.redis.topology import connect
from extauthz.core.permissions import Permissions
from extauthz.demo.ports import free_port
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis
from tests.servers.fixtures import new_database
from tests.servers.forking import family
from tests.servers.hurting_proxy import HurtingProxy
from tests.servers.management_client import KEY_FORMAT, NO_LIMITS, ManagementClient
from tests.servers.process import Service, listening, settings
from tests.servers.prometheus import Prometheus
from tests.servers.raw_http import Wire, wire
from tests.servers.serving import LISTENERS, question
from tests.servers.tls_door import TLS, tls_before

ROUTES = """
[[routes]]
path = "/{resource}/**"
"""
# Organizations by name: the limits of their plans, where there are some.
PLANS: Mapping[str, Mapping[str, object]] = {
    "Globex": {},
    "Initech": {"daily_quota": 40},
    "Hooli": {"rate": "1/min", "burst": 3},
    "Umbrella": {"monthly_quota": 60},
    "Stark": {"daily_quota": 100_000, "rate": "1000", "burst": 1000},
    "Wonka": {"rate": "1/min", "burst": 3},
    "Soylent": {},
}
BETWEEN = 0.004  # seconds between two requests


@dataclass(frozen=True, slots=True)
class Monitored:
    """`service` with two workers, scraped by `prometheus`. `since` is when traffic began, in Unix seconds."""

    service: Service
    prometheus: Prometheus
    operator: ManagementClient
    database: str
    postgres: HurtingProxy
    redis: HurtingProxy
    since: float

    async def hurt(self) -> None:
        """Redis goes away, PostgreSQL does, a worker is killed; each is back before the next."""
        refused = 'sum(extauthz_decisions_total{decision="authentication_unavailable"}) > 0'
        for store, proxy, seen in (("redis", self.redis, "vector(1)"), ("postgresql", self.postgres, refused)):
            await proxy.refuse()
            await self.prometheus.until(
                f'max(avg_over_time(extauthz_degraded{{store="{store}"}}[2s])) == 1 and on () {seen}'
            )
            await proxy.accept()
            await self.prometheus.until(f'max(extauthz_degraded{{store="{store}"}}) == 0')
        os.kill(family(self.service.process.pid)[1], signal.SIGKILL)
        await self.prometheus.until("extauthz_worker_restarts_total > 0")


@asynccontextmanager
async def monitored(postgres: Postgres, redis: Redis, *, template: str, folder: Path) -> AsyncIterator[Monitored]:
    """All servers, with traffic until the block ends. `template` is a database with the schema."""
    async with AsyncExitStack() as stack:
        database = stack.enter_context(new_database(postgres, template=template))
        operator = await _office(stack, database, redis)
        at = urlsplit(database)
        to_postgres = await stack.enter_async_context(HurtingProxy(at.hostname or "", at.port or 0))
        door = await stack.enter_async_context(tls_before(redis.port))
        to_redis = await stack.enter_async_context(HurtingProxy("127.0.0.1", door))
        environ = settings(
            database.replace(f":{at.port}/", f":{to_postgres.port}/"),
            f"rediss://localhost:{to_redis.port}/0?ssl_ca_certs={quote(str(TLS / 'cert.pem'))}",
            EXTAUTHZ_TENANT_METRICS="5",
            EXTAUTHZ_DEADLINE_MS="1000",  # so that a busy machine does not cause an outage
            EXTAUTHZ_REDIS_TIMEOUT_MS="300",
            EXTAUTHZ_DATABASE_TIMEOUT_MS="300",
            # Nothing listens there, so that events wait and spans are dropped.
            EXTAUTHZ_WEBHOOK_URL=f"http://127.0.0.1:{free_port()}/",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
            EXTAUTHZ_DECISION_LOG="all",
            EXTAUTHZ_DECISION_LOG_TO="/dev/full",
            EXTAUTHZ_WEBHOOK_SECRET="whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        )
        file = folder / "extauthz.toml"
        file.write_text(ROUTES)
        service = await stack.enter_async_context(listening(environ, "--config", file, "--workers", "2"))
        await service.until(lambda report: report["status"] == "ready" and report["workers"] == "ok")
        prometheus = Prometheus(folder, await service.address("admin"))
        await asyncio.to_thread(stack.enter_context, prometheus)
        await prometheus.until("extauthz_build_info")  # so that what grows is seen from its beginning
        since = time()
        keys = await _customers(operator)
        ports = {name: int((await service.address(name)).rpartition(":")[2]) for name in LISTENERS}
        for task in (_traffic(ports, keys), _changes(operator)):
            stack.push_async_callback(_ended, asyncio.create_task(task))
        yield Monitored(service, prometheus, operator, database, to_postgres, to_redis, since)


async def _office(stack: AsyncExitStack, database: str, redis: Redis) -> ManagementClient:
    pool = await stack.enter_async_context(open_pool(database, size=2, wait=5, statement_timeout=5))
    client = await stack.enter_async_context(connect(redis.redis_url, patience=5))
    await client.flushall()
    return ManagementClient(pool, client)


async def _customers(operator: ManagementClient) -> Mapping[str, str]:
    """Organizations of every kind, and a key for each fault that a key can have; the keys by a name."""
    keys: dict[str, str] = {}
    for name, limits in PLANS.items():
        await operator.tenants.create_plan(f"of {name}", NO_LIMITS | dict(limits))
        await operator.tenants.create_organization(name, f"of {name}")
        keys[name] = (await operator.new_key(name, name="app"))[1]
    await operator.tenants.update_organization("Wonka", {"limits_mode": "shadow"})
    await operator.tenants.update_organization("Soylent", {"status": "suspended"})
    only_reading: Permissions = {"customers": frozenset({"read"})}
    keys["reads"] = (await operator.new_key("Globex", name="reads", permissions=only_reading))[1]
    keys["ends"] = (await operator.new_key("Globex", name="ends", expires_at=datetime.now(UTC) + timedelta(days=5)))[1]
    revoked, keys["revoked"] = await operator.new_key("Globex", name="revoked")
    await operator.keys.revoke(revoked.id, last=False)
    unused, _ = await operator.new_key("Stark", name="unused")
    await operator.sql("UPDATE api_keys SET created_at = now() - interval '90 days' WHERE id::text = %s", unused.id)
    return keys


async def _traffic(ports: Mapping[str, int], keys: Mapping[str, str]) -> None:
    """Asks as proxies do, of each kind in turn, on connections that are opened again where they break."""
    asked = [question(listener, "/customers/1", key=keys[name]) for listener in LISTENERS for name in keys]
    asked += [
        question("envoy", "/invoices/1", key=keys["reads"], method="POST"),
        question("envoy", "/customers/1"),
        question("envoy", "/customers/1", key="malformed key"),
        question("envoy", "/no/../way/%2e%2e", key=keys["Globex"]),
        b"GET / HTTP/1.1\r\nHost: nginx\r\n\r\n",
    ]
    while True:
        async with AsyncExitStack() as stack:
            with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                wires = {name: await stack.enter_async_context(wire(port)) for name, port in ports.items()}
                await _rounds(wires, asked)


async def _rounds(wires: Mapping[str, Wire], asked: list[bytes]) -> None:
    while True:
        unknown = question("envoy", "/customers/1", key=KEY_FORMAT.issue(secrets.token_bytes(20)))
        for data in (*asked, unknown):
            nginx, forward = b"X-Original-" in data or b"Host: nginx" in data, b"X-Forwarded-" in data
            await wires["nginx" if nginx else "forward" if forward else "envoy"].ask(data)
            await asyncio.sleep(BETWEEN)


async def _changes(operator: ManagementClient) -> None:
    """Makes a key and revokes it, again and again."""
    while True:
        made, _ = await operator.new_key("Stark", name="short-lived")
        await operator.keys.revoke(made.id, last=False)
        await asyncio.sleep(0.5)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
