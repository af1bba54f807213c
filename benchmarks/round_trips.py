"""How often Redis is asked, and what a check costs it and us: checks of 100 tenants by way of 1 worker and of 4.

Checks that wait in the same turn of a worker's loop share a call, so the goal is for what waits at one worker.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis

from benchmarks.ground import PLENTY, Ground, ground, table
from benchmarks.load import PROCESSES, Asked, Target, crowd, seconds
from extauthz.app import management
from extauthz.backends.redis.topology import connect
from extauthz.core.management import KeyTerms
from tests.servers.serving import PATIENT

CHECKS = 50_000
TENANTS = 100
SETTINGS = ((1, 64), (4, 64), (4, 256))  # workers, connections of all
GOAL = 0.1  # round trips for a check, at 64 connections of one worker
ROUTES = '[[routes]]\npath = "/1"\nresource = "api"\n'
_TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """What was used so far: calls of scripts, all round trips, seconds of Redis in scripts, of the worker's CPU."""

    scripts: int
    trips: int
    script_time: float
    cpu: float

    def since(self, before: "Cost") -> "Cost":
        """What was used since then."""
        return Cost(
            self.scripts - before.scripts,
            self.trips - before.trips,
            self.script_time - before.script_time,
            self.cpu - before.cpu,
        )


async def main() -> None:
    """Measures and prints."""
    rows, met = [], True
    for workers, connections in SETTINGS:
        used, rate = await _measure(workers, connections)
        met = met and (workers > 1 or used.trips / CHECKS < GOAL)
        rows.append(
            (
                str(workers),
                str(connections),
                f"{rate:.0f}",
                f"{used.scripts / CHECKS:.3f}",
                f"{used.trips / CHECKS:.3f}",
                f"{used.script_time * 1e6 / CHECKS:.1f} µs",
                f"{used.cpu * 1e6 / CHECKS:.1f} µs",
            )
        )
    table(("workers", "connections", "checks a second", "EVALSHA", "round trips", "script time", "our CPU"), rows)
    print(f"Per check. Goal: under {GOAL} round trips at 64 connections of one worker: {'met' if met else 'MISSED'}")
    sys.exit(0 if met else 1)


async def _measure(workers: int, connections: int) -> tuple[Cost, float]:
    """What so many checks cost, once everything is known to every worker; and checks a second."""
    async with (
        ground(workers=workers, configuration=ROUTES, **PATIENT) as at,
        connect(at.redis.redis_url, patience=5) as redis,
    ):
        target = await _furnish(at)
        wanted = [Asked(number % TENANTS, 1) for number in range(CHECKS)]
        with crowd() as load:
            await load.ask(target, wanted, connections=connections // PROCESSES)
            before = await _used(at, redis)
            checks = await load.ask(target, wanted, connections=connections // PROCESSES)
            after = await _used(at, redis)
        assert all(check.status == 200 for check in checks)
        return after.since(before), CHECKS / seconds(checks)


async def _furnish(at: Ground) -> Target:
    async with management.management(at.settings, actor="bench") as operator:
        await operator.tenants.create_plan("plenty", PLENTY)
        made = [await operator.tenants.create_organization(f"customer {who}", "plenty") for who in range(TENANTS)]
        keys = [(await operator.keys.create(each.id, KeyTerms()))[1] for each in made]
    return Target(at.host, at.port, keys)


async def _used(at: Ground, redis: Redis) -> Cost:
    scripts = (await redis.info("commandstats"))["cmdstat_evalsha"]
    # What leaves in one write arrives in one read; statistics of commands have those that scripts call as well.
    reads = (await redis.info("stats"))["total_reads_processed"]
    return Cost(scripts["calls"], reads, scripts["usec"] / 1e6, _cpu(at.workers()))


def _cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


if __name__ == "__main__":
    asyncio.run(main())
