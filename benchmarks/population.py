"""Organizations with keys by the million, copied into the tables without triggers, which would notify every process."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from benchmarks.ground import PLENTY, Ground
from extauthz.app import management
from extauthz.backends.redis.connection import open_connection
from extauthz.backends.redis.limits import RedisLimits
from extauthz.core.credentials import KeyFormat
from extauthz.service.directory.tiers import portions

SPENT = {"rate": "1/d", "burst": 1, "daily_quota": None, "monthly_quota": None}
WINDOWS = {"rate": "60000000/min", "burst": 10**9, "daily_quota": 10**12, "monthly_quota": None}
PLANS: Mapping[str, Mapping[str, object]] = {"plenty": PLENTY, "spent": SPENT, "windows": WINDOWS}
COUNTERS_AT_ONCE = 100
FULL = '{"*": ["read", "write"]}'


@dataclass(frozen=True, slots=True)
class Population:
    """So many keys, the same number for each of so many organizations, give or take one."""

    name: str
    keys: int = 1
    tenants: int = 1
    plan: str = "plenty"
    permissions: str = FULL


async def make_plans(at: Ground) -> None:
    """The plans that populations are on."""
    async with management.management(at.settings, actor="bench") as operator:
        for name, terms in PLANS.items():
            await operator.tenants.create_plan(name, terms)


def furnish(at: Ground, population: Population) -> list[str]:
    """Writes a population down; its keys."""
    keys = [_key(at.key_format, population.name, number) for number in range(population.keys)]
    with psycopg.connect(at.postgres.dsn) as sql:
        sql.execute("SET session_replication_role = replica")  # no trigger runs
        found = sql.execute("SELECT id::text FROM plans WHERE name = %s", (population.plan,)).fetchone()
        assert found is not None
        tenants = _tenants(population)
        names = (f"{population.name} {number}" for number in range(population.tenants))
        _copy(sql, "organizations (id, name, plan_id)", ((*two, found[0]) for two in zip(tenants, names, strict=True)))
        _copy(
            sql,
            "api_keys (id, organization_id, hash, pepper_id, handle, permissions)",
            (
                (
                    _id(population.name, "key", number),
                    tenants[number % population.tenants],
                    rf"\x{at.key_format.digest(key).digests[0]}",
                    at.key_format.signing_pepper,
                    at.key_format.handle(key),
                    population.permissions,
                )
                for number, key in enumerate(keys)
            ),
        )
    with psycopg.connect(at.postgres.dsn, autocommit=True) as sql:
        sql.execute("ANALYZE organizations, api_keys")
    return keys


async def begin_counters(at: Ground, population: Population) -> None:
    """Has Redis count for all its organizations, as it does after the first check of each."""
    async with open_connection(at.redis.redis_url) as link:
        limits = RedisLimits(link)
        for some in portions(_tenants(population), COUNTERS_AT_ONCE):
            await asyncio.gather(*(limits.seed(tenant_id, ()) for tenant_id in some))


def _tenants(population: Population) -> list[str]:
    return [_id(population.name, "tenant", number) for number in range(population.tenants)]


def _copy(sql: psycopg.Connection, table: str, rows: Iterable[Sequence[str]]) -> None:
    with sql.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _key(key_format: KeyFormat, name: str, number: int) -> str:
    return key_format.issue(hashlib.sha1(f"{name} {number}".encode()).digest())


def _id(*parts: object) -> str:
    return hashlib.md5(repr(parts).encode()).hexdigest()
