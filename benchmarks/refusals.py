"""Whether the time that a refusal takes tells an unknown key from one that was revoked, disabled or has expired.

Each kind in turn, over and over, as an attacker with a list of old keys would ask: each time one that was not
asked for before, or again after a pause in which what is remembered of it has ended, or at once. Medians, interleaved.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg

from benchmarks.ground import PLENTY, Connection, Ground, connections, ground, percentile, table
from extauthz.app import management
from extauthz.core.management import KeyTerms

KINDS = ("unknown", "revoked", "disabled", "expired")
KEYS = 400  # of each kind
PAUSE = 1.1  # seconds, after which no refusal is remembered
GOAL = 0.25  # by which the medians may differ


async def main() -> None:
    """Measures and prints."""
    async with ground(workers=1) as at:
        keys = await _furnish(at)
        async with connections(at, 1) as (wire, *_):
            times = {
                "first": await _measure(wire, keys),
                "again at once": await _measure(wire, keys, twice=True),
                "again later": await _after_a_pause(wire, keys),
            }
    rows, met = [], True
    for name, by_kind in times.items():
        medians = {kind: percentile(some, 0.5) * 1000 for kind, some in by_kind.items()}
        rows.append((name, *(f"{medians[kind]:.2f} ms" for kind in KINDS)))
        met &= max(medians.values()) <= (1 + GOAL) * min(medians.values())
    table(("asked for", *KINDS), rows)
    print(f"Goal: medians within {GOAL:.0%} of each other: {'met' if met else 'MISSED'}")
    sys.exit(0 if met else 1)


async def _furnish(at: Ground) -> dict[str, Sequence[str]]:
    async with management.management(at.settings, actor="bench") as operator:
        await operator.tenants.create_plan("plenty", PLENTY)
        acme = await operator.tenants.create_organization("acme", "plenty")
        soon = datetime.now(UTC) + timedelta(days=1)
        made = {kind: [await operator.keys.create(acme.id, KeyTerms()) for _ in range(KEYS)] for kind in KINDS[1:]}
        for details, _ in made["disabled"]:
            await operator.keys.disable(details.id)
        for details, _ in made["expired"]:
            await operator.keys.update(details.id, {"expires_at": soon})
    with psycopg.connect(at.postgres.dsn, autocommit=True) as sql:
        sql.execute("UPDATE api_keys SET expires_at = now() - interval '1 day' WHERE expires_at IS NOT NULL")
        ids = [details.id for details, _ in made["revoked"]]
        sql.execute("UPDATE api_keys SET revoked_at = now() WHERE id = ANY (%s::uuid[])", (ids,))
        sql.execute("VACUUM ANALYZE")
    await asyncio.sleep(PAUSE)  # messages of all that have arrived
    issued = {kind: [key for _, key in some] for kind, some in made.items()}
    return {"unknown": [at.key_format.issue(secrets.token_bytes(20)) for _ in range(KEYS)], **issued}


async def _measure(wire: Connection, keys: dict[str, Sequence[str]], *, twice: bool = False) -> dict[str, list[float]]:
    """Seconds of each refusal, one of each kind after the other."""
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(KEYS):
        for kind in KINDS[number % 4 :] + KINDS[: number % 4]:
            if twice:
                await wire.ask(keys[kind][number])
            begun = time.perf_counter()
            status = await wire.ask(keys[kind][number])
            times[kind].append(time.perf_counter() - begun)
            assert status == 401
    return times


async def _after_a_pause(wire: Connection, keys: dict[str, Sequence[str]]) -> dict[str, list[float]]:
    await asyncio.sleep(PAUSE)
    return await _measure(wire, keys)


if __name__ == "__main__":
    asyncio.run(main())
