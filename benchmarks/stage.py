"""All that a bench of speed needs on its feet at once: the service and its stores, bare aiohttp, keys, requests."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import machine
from benchmarks.bare import LOOPS
from benchmarks.client import KEY, NUMBER, Job
from benchmarks.gauges import Gauges, log_queries
from benchmarks.ground import Ground, ground
from benchmarks.leases import LEASES
from benchmarks.population import Population, furnish, make_plans
from benchmarks.runs import Case, Server
from extauthz.demo.folders import temporary_folder
from extauthz.demo.process import family
from tests.servers.process import Service

PUBLIC = "/public/status"
ROUTES = f"""
[[routes]]
path = "/**"
resource = "api"

[[routes]]
path = "{PUBLIC}"
public = true
rate = "1000000/s"
burst = 1_000_000_000
"""
# What Envoy and nginx send as configured in envoy/ and nginx/, less the credential.
_ID = f"x-request-id: 0d6f0aa7-2ec6-4b2c-9b39-{NUMBER}\r\n"
_HEADS = {
    "envoy": (
        "GET {path} HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 0\r\n"
        f"{_ID}x-forwarded-for: {{address}}\r\nx-envoy-expected-rq-timeout-ms: 200\r\n"
    ),
    "nginx": (
        "GET /check HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Original-Method: GET\r\n"
        "X-Original-URI: {path}\r\nX-Original-Host: api.example.com\r\n"
        f"{_ID}X-Real-IP: {{address}}\r\n"
    ),
}
BEARER = f"authorization: Bearer {KEY}\r\n"
MALFORMED = "authorization: Bearer a b\r\n"
DIFFERENT, SAME = f"/api/v1/customers/{NUMBER}?page=2", "/api/v1/customers/42?page=2"
ADDRESS = "203.0.113.7"
BUSY = Population("busy", keys=10, tenants=10)  # each asked for often enough to be leased


@dataclass
class Stage:
    """A running service as a `Server` for each listener; `keys` made so far, by their population.

    Beside it on a whole stage: bare aiohttp, the floor, and a service on the same stores that takes leases.
    """

    at: Ground
    folder: Path
    envoy: Server
    nginx: Server
    bare: Server | None = None
    floor: Server | None = None
    leased: Server | None = None
    keys: dict[Population, list[str]] = field(default_factory=dict)

    def keys_of(self, population: Population, *, draws: int = 0, skew: float = 0.0) -> str:
        """A file of its keys: each once, or so many drawn by Zipf's law with that exponent (0: all alike)."""
        keys = self.keys.get(population) or self.keys.setdefault(population, furnish(self.at, population))
        file = self.folder / f"{population.name} {draws} {skew}.keys"
        if not file.exists():
            file.write_text("\n".join(_drawn(keys, draws, skew) if draws else keys))
        return str(file)

    def addresses(self, count: int) -> str:
        """A file of so many client addresses."""
        file = self.folder / f"{count}.addresses"
        file.write_text("\n".join(f"198.18.{number // 256}.{number % 256}" for number in range(count)))
        return str(file)

    def beside_bare(self, name: str, asked: Job) -> list[Case]:
        """Rows for the same question to bare aiohttp and to the service; with busy keys to it and with leases."""
        busy = replace(asked, keys=self.keys_of(BUSY))
        rows = {
            bare_row(name): (self.bare, asked),
            allow_row(name): (self.envoy, asked),
            busy_row(name): (self.envoy, busy),
            leases_row(name): (self.leased, busy),
        }
        return [
            Case(row, server, replace(asked, host=server.host, port=server.port), beside=bare_row(name))
            for row, (server, asked) in rows.items()
            if server is not None
        ]


def bare_row(name: str) -> str:
    """The row of bare aiohttp."""
    return f"bare, {name}"


def allow_row(name: str) -> str:
    """The row of allowed checks."""
    return f"allow, {name}"


def busy_row(name: str) -> str:
    """The row of allowed checks of busy keys, without leases."""
    return f"busy keys, {name}"


def leases_row(name: str) -> str:
    """The row of allowed checks of the same busy keys where leases are taken."""
    return f"leases, {name}"


@asynccontextmanager
async def stage(*, workers: int = 1, cores: Collection[int] = machine.SERVED, **more: str) -> AsyncIterator[Stage]:
    """The service on cores of its own; the stores on others. `more` is its environment."""
    with _affinity(machine.STORES), temporary_folder("extauthz bench ") as folder:
        async with ground(workers=workers, configuration=ROUTES, **more) as at:
            pids = at.workers()
            machine.pin(pids, cores)
            log_queries(at)
            await make_plans(at)
            with closing(Gauges(at)) as gauges:
                host, _, port = (await at.service.address("nginx")).rpartition(":")
                yield Stage(
                    at,
                    folder,
                    Server(pids, at.host, at.port, gauges),
                    Server(pids, host, int(port), gauges),
                )


@contextmanager
def _affinity(cores: Collection[int]) -> Iterator[None]:
    """Keeps this process, and what it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def whole_stage(**more: str) -> AsyncIterator[Stage]:
    """The service, bare aiohttp and the floor on the loop that the service has, and another that takes leases."""
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(stage(workers=1, cores=machine.SERVED, **more))
        at.bare = await stack.enter_async_context(bare("application", LOOPS[-1]))
        at.floor = await stack.enter_async_context(bare("floor", LOOPS[-1]))
        at.leased, _ = await stack.enter_async_context(another(at, **LEASES))
        yield at


@asynccontextmanager
async def another(at: Stage, **more: str) -> AsyncIterator[tuple[Server, Service]]:
    """Another service on the same stores and the same core; `more` is its environment."""
    async with at.at.beside(**more) as (service, host, port):
        pids = family(service.process.pid)
        machine.pin(pids, machine.SERVED)
        yield Server(pids, host, port, at.envoy.gauges), service


@asynccontextmanager
async def bare(form: str, loop: str) -> AsyncIterator[Server]:
    """Bare aiohttp, or the floor, on the core of what is measured."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.bare", form, loop), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert program.stdout is not None
        port = int(await program.stdout.readline())
        machine.pin([program.pid], machine.SERVED)
        yield Server([program.pid], "127.0.0.1", port)
    finally:
        program.kill()
        await program.wait()


def job(
    server: Server,
    *,
    dialect: str = "envoy",
    path: str = DIFFERENT,
    keys: str = "",
    credential: str | None = None,
    address: str = ADDRESS,
    status: int = 200,
) -> Job:
    """The question of a proxy of that family, a keys' file behind the credential, or with another credential."""
    shown = credential if credential is not None else BEARER if keys else ""
    request = _HEADS[dialect].replace("{path}", path).replace("{address}", address) + shown + "\r\n"
    return Job(server.host, server.port, request, keys, connections=64, seconds=2.0, status=status)


def _drawn(keys: Sequence[str], draws: int, skew: float) -> list[str]:
    weights = [1 / rank**skew for rank in range(1, len(keys) + 1)]
    return random.Random(1).choices(keys, weights, k=draws)
