"""All that a bench of speed needs on its feet at once: the service and its stores, bare aiohttp, keys, requests."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from extauthz.demo.folders import temporary_folder
from tests.bench import machine
from tests.bench.client import Job
from tests.bench.gauges import Gauges, log_queries
from tests.bench.ground import Ground, ground
from tests.bench.population import Population, furnish, make_plans
from tests.bench.runs import Server

# What Envoy and nginx send as configured in envoy/ and nginx/, less the credential.
_MORE = "x-request-id: 0d6f0aa7-2ec6-4b2c-9b39-5a1f8ab6a3de\r\n"
_HEADS = {
    "envoy": (
        "GET /api/v1/customers/42?page=2 HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 0\r\n"
        f"{_MORE}x-forwarded-for: 203.0.113.7\r\nx-envoy-expected-rq-timeout-ms: 200\r\n"
    ),
    "nginx": (
        "GET /check HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Original-Method: GET\r\n"
        "X-Original-URI: /api/v1/customers/42?page=2\r\nX-Original-Host: api.example.com\r\n"
        f"{_MORE}X-Real-IP: 203.0.113.7\r\n"
    ),
}
BEARER = "authorization: Bearer "


@dataclass
class Stage:
    """A running service as a `Server` for each listener; `keys` made so far, by their population."""

    at: Ground
    folder: Path
    envoy: Server
    nginx: Server
    keys: dict[Population, list[str]] = field(default_factory=dict)

    def keys_of(self, population: Population, *, draws: int = 0, skew: float = 0.0) -> str:
        """A file of its keys: each once, or so many drawn by Zipf's law with that exponent (0: all alike)."""
        keys = self.keys.get(population) or self.keys.setdefault(population, furnish(self.at, population))
        file = self.folder / f"{population.name} {draws} {skew}.keys"
        if not file.exists():
            file.write_text("\n".join(_drawn(keys, draws, skew) if draws else keys))
        return str(file)


@asynccontextmanager
async def stage(*, workers: int = 1, cores: Collection[int] = machine.SERVED, **more: str) -> AsyncIterator[Stage]:
    """The service on cores of its own; everything else, ourselves too, stays on the rest. `more` is its environment."""
    os.sched_setaffinity(0, machine.REST)
    with temporary_folder("extauthz bench ") as folder:
        async with ground(workers=workers, **more) as at:
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


@asynccontextmanager
async def bare(form: str, loop: str) -> AsyncIterator[Server]:
    """Bare aiohttp, on the core of what is measured."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.bare", form, loop), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert program.stdout is not None
        port = int(await program.stdout.readline())
        machine.pin([program.pid], machine.SERVED)
        yield Server([program.pid], "127.0.0.1", port)
    finally:
        program.kill()
        await program.wait()


def job(server: Server, *, dialect: str = "envoy", keys: str = "", credential: str = BEARER, status: int = 200) -> Job:
    """The question of a proxy of that family, with a key of the file behind `credential`; without either, with none."""
    head, end = _HEADS[dialect], "\r\n\r\n"
    before, after = (head + credential, end) if keys or credential != BEARER else (head, "\r\n")
    return Job(server.host, server.port, before, after, keys, connections=64, seconds=2.0, status=status)


def _drawn(keys: Sequence[str], draws: int, skew: float) -> list[str]:
    weights = [1 / rank**skew for rank in range(1, len(keys) + 1)]
    return random.Random(1).choices(keys, weights, k=draws)
