"""How often PostgreSQL is asked: 10,000 keys in use on one worker, counted in the server's own log.

Cold, then warm for longer than any record lasts, so that all of them are read again at least once.
"""

import asyncio
import re
import time
from collections import Counter
from itertools import islice

import psycopg

from benchmarks.ground import PLENTY, Connection, Ground, connections, ground, table
from extauthz.app import management
from extauthz.core.management import KeyTerms

KEYS = 10_000
ORGANIZATIONS = 100
CONNECTIONS = 32
SECONDS = 130
GOAL = 5  # queries per 10,000 warm checks, of whatever kind
_STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*): (?:-- )?(\w+)")
_KINDS = {b"schema_version": "watch", b"find_keys": "look-up", b"find_tenants": "look-up"}


async def main() -> None:
    """Measures and prints."""
    async with ground(workers=1) as at:
        keys = await _furnish(at)
        with psycopg.connect(at.postgres.dsn, autocommit=True) as sql:
            sql.execute("ALTER SYSTEM SET log_statement = 'all'")
            sql.execute("SELECT pg_reload_conf()")
        async with connections(at, CONNECTIONS) as wires:
            cold, _ = await _measure(at, wires, keys, seconds=0)
            warm, share = await _measure(at, wires, keys, seconds=SECONDS)
    headers = ("", "checks", "seconds", "503", "look-ups", "is it there?", "last used, other", "per 10,000 checks")
    table(headers, [("cold", *cold), ("warm", *warm)])
    print(f"Goal: under {GOAL} queries per 10,000 warm checks: {'met' if share < GOAL else 'MISSED'}")


async def _furnish(at: Ground) -> list[str]:
    async with management.management(at.settings, actor="bench") as operator:
        await operator.tenants.create_plan("plenty", PLENTY)
        keys: list[str] = []
        numbers = iter(range(KEYS))
        for number in range(ORGANIZATIONS):
            await operator.tenants.create_organization(f"customer {number}", "plenty")
            some = [f"bench-key-issued-elsewhere-{each:06}" for each in islice(numbers, KEYS // ORGANIZATIONS)]
            await operator.keys.import_many(f"customer {number}", [(key, KeyTerms()) for key in some])
            keys += some
    return keys


async def _measure(
    at: Ground, wires: list[Connection], keys: list[str], *, seconds: float
) -> tuple[tuple[str, ...], float]:
    """Every key once, and again for so long; what PostgreSQL was asked meanwhile, and how much per 10,000 checks."""
    before = at.postgres.log.stat().st_size
    started = time.monotonic()
    checks = refusals = 0
    while checks == 0 or time.monotonic() - started < seconds:
        shares = [keys[number :: len(wires)] for number in range(len(wires))]
        refusals += sum(await asyncio.gather(*(_each(wire, share) for wire, share in zip(wires, shares, strict=True))))
        checks += len(keys)
    took = time.monotonic() - started
    with at.postgres.log.open("rb") as log:
        log.seek(before)
        kinds = Counter(_KINDS.get(match[1], "other") for match in _STATEMENT.finditer(log.read()))
    share = kinds.total() * 10_000 / checks
    counts = (str(kinds[kind]) for kind in ("look-up", "watch", "other"))
    return (str(checks), f"{took:.1f}", str(refusals), *counts, f"{share:.1f}"), share


async def _each(wire: Connection, keys: list[str]) -> int:
    """Asks with every key until it is allowed; how often it was not."""
    refusals = 0
    for key in keys:
        while await wire.ask(key) != 200:
            refusals += 1
    return refusals


if __name__ == "__main__":
    asyncio.run(main())
