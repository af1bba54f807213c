"""What a key costs a process: CPU of a look-up, cold and held, and resident memory. `python -m benchmarks.records`.

One process that looks keys up as a check does, on real servers, without HTTP and without limits.
"""

import argparse
import asyncio
import gc
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.ground import Ground, ground, table
from benchmarks.population import Population, furnish, make_plans
from extauthz.core.credentials import Credential
from extauthz.core.request import CheckRequest
from tests.servers.reader import Reader, reader

CROWD = 500  # keys that arrive at one instant
COLD = 10_000
PATIENCE = 30.0


async def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("--held", type=int, default=200_000, metavar="KEYS", help="keys read for the memory they take")
    parser.add_argument("--tenants", type=int, default=20_000, help="their organizations")
    held = parser.parse_args()
    rows: list[tuple[str, str]] = []
    async with ground(workers=1) as at:
        await make_plans(at)
        known, fresh, many = (
            _furnish(at, Population("known", keys=COLD, tenants=1)),
            _furnish(at, Population("fresh", keys=COLD, tenants=COLD)),
            _furnish(at, Population("held", keys=held.held, tenants=held.tenants)),
        )
        async with _process(at) as one:
            await _look(one, known[:1])
            rows.append(("cold key of a known organization", await _cost(one, known[1:])))
            rows.append(("the same, held", await _cost(one, known[1:])))
            rows.append(("cold key of a new organization", await _cost(one, fresh)))
        async with _process(at) as other:
            rows.append(("key and organization that Redis has", await _cost(other, known)))
        async with _process(at) as third:
            await _look(third, known[:CROWD])
            before = _resident()
            rows.append((f"{held.held:,} keys", await _cost(third, many)))
            grown = (_resident() - before) / len(many)
            rows.append(("memory of a key and its share of an organization", f"{grown:.0f} B"))
            rows.append(("the same keys once more", await _cost(third, many)))
            rows.append(("resident in all", f"{_resident() / 1e6:.0f} MB"))
    table(("", "each"), rows)


def _furnish(at: Ground, population: Population) -> list[Credential]:
    return [at.key_format.digest(key) for key in furnish(at, population)]


@asynccontextmanager
async def _process(at: Ground) -> AsyncIterator[Reader]:
    async with reader(at.postgres.dsn, at.redis.redis_url) as process:
        yield process
        await process.lookup.keys.shared()


async def _cost(process: Reader, asked: Sequence[Credential]) -> str:
    began = time.process_time()
    await _look(process, asked)
    await process.lookup.keys.shared()
    if process.lookup.tenants is not None:
        await process.lookup.tenants.shared()
    return f"{(time.process_time() - began) / len(asked) * 1e6:.1f} µs"


async def _look(process: Reader, asked: Sequence[Credential]) -> None:
    for start in range(0, len(asked), CROWD):
        await asyncio.gather(*(_one(process, each) for each in asked[start : start + CROWD]))


async def _one(process: Reader, credential: Credential) -> None:
    now, started = time.time(), time.monotonic()
    request = CheckRequest("envoy", "GET", "/", "", (), "", "", now, started, started + PATIENCE)
    key = await process.lookup.key(credential, request, cached=True)
    assert key is not None
    assert await process.lookup.tenant(key, request, cached=True) is not None


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    asyncio.run(main())
