"""The whole service inside the test's own event loop, on free ports, and questions as each family of proxies asks."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.app import stores, wiring
from extauthz.app.listeners import ADMIN, USAGE, bind_all
from extauthz.config import Settings, load
from extauthz.core.reason import OUTCOMES, Reason
from extauthz.service.health import Health
from extauthz.telemetry.metrics import Metrics
from tests.servers.management_client import PEPPERS
from tests.servers.raw_http import Answer, ask

PEPPER_SETTING = ",".join(f"{pepper.id}:{pepper.value.decode()}" for pepper in PEPPERS)
LISTENERS = ("envoy", "nginx", "forward")
PROBE_INTERVAL = 0.02  # seconds, after `probe_redis_often`
PATIENT = {"EXTAUTHZ_DEADLINE_MS": "5000", "EXTAUTHZ_REDIS_TIMEOUT_MS": "2000", "EXTAUTHZ_DATABASE_TIMEOUT_MS": "2000"}

# `TEST_LEASES=auto make test`: every service takes leases whose test does not say otherwise.
LEASING = {"RATE_LIMIT_LEASES": os.environ["TEST_LEASES"]} if "TEST_LEASES" in os.environ else {}


def samples(exposition: str) -> dict[str, float]:
    """Every sample of the older text format, by name and labels as they stand there."""
    pairs = [line.rpartition(" ") for line in exposition.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


@dataclass(frozen=True, slots=True)
class Serving:
    """A running service; `ports` by the listener's name."""

    ports: dict[str, int]
    health: Health
    metrics: Metrics

    def value(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 where it has no sample yet."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def scraped(self) -> dict[str, float]:
        """Every sample of `/metrics`, by name and labels as they stand there."""
        answer = await ask(self.ports["admin"], b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        return samples(answer.body.decode())

    async def scraped_until(self, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Scrapes until what it says holds, for some seconds."""
        async with asyncio.timeout(20):
            while True:
                found = await self.scraped()
                if holds(found):
                    return found
                await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(database: str, redis_url: str, **environment: str) -> AsyncIterator[Serving]:
    """Runs the service; `environment` is further settings by their names in the environment."""
    ports = {f"EXTAUTHZ_{name.upper()}_LISTEN": "127.0.0.1:0" for name in (*LISTENERS, USAGE.name, ADMIN.name)}
    given = {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": PEPPER_SETTING}
    settings = load(LEASING | given | ports | environment, None)
    sockets, _ = bind_all(settings)
    async with wiring.running(settings, sockets) as running:
        ports_by_name = {name: sock.getsockname()[1] for name, sock in sockets.items()}
        yield Serving(ports_by_name, running.health, running.metrics)


def question(
    listener: str, path: str | bytes = "/", *, key: str | None = None, method: str = "GET", more: bytes = b""
) -> bytes:
    """The check of a request by a proxy of that family; `more` is further header lines."""
    raw = path.encode() if isinstance(path, str) else path
    verb = method.encode()
    target, told = {
        "envoy": (raw, b""),
        "nginx": (b"/check", b"X-Original-Method: " + verb + b"\r\nX-Original-URI: " + raw + b"\r\n"),
        "forward": (b"/", b"X-Forwarded-Method: " + verb + b"\r\nX-Forwarded-Uri: " + raw + b"\r\n"),
    }[listener]
    head = (verb if listener == "envoy" else b"GET") + b" " + target + b" HTTP/1.1\r\nHost: api.example.com\r\n"
    credential = b"" if key is None else b"Authorization: Bearer " + key.encode() + b"\r\n"
    return head + told + credential + more + b"\r\n"


def check_form(answer: Answer, listener: str) -> None:
    """Asserts the form that every answer of a listener has."""
    reason = Reason(answer.decision)
    assert answer["cache-control"] == "no-store"
    assert answer["server"] == "extauthz"
    assert answer["content-length"] == str(len(answer.body))
    assert len([name for name, _ in answer.headers if name == "date"]) == 1
    if listener == "nginx":
        assert answer.status in (200, 401, 403, 503)
        assert answer.body == b""
    else:
        assert answer.status == OUTCOMES[reason].status
    if reason is not Reason.ALLOW:
        assert answer["x-extauthz-code"]
        assert not answer["x-organization-id"]


def probe_redis_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let services of this process look at Redis far more often than once a second."""
    usual = stores.redis_policy

    def often(settings: Settings) -> CallPolicy:
        return replace(usual(settings), hold=0.05, probe_interval=PROBE_INTERVAL, watch_interval=0.1)

    monkeypatch.setattr(stores, "redis_policy", often)
