"""A connection pool after an outage: it works again at once, after every kind and length of outage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import monotonic

import pytest
from psycopg import OperationalError

from extauthz.backends.postgres.errors import NoConnection
from extauthz.backends.postgres.pool import Limits, Pool, open_pool
from extauthz.backends.postgres.queries import fetch
from extauthz.core.errors import StoreUnavailable
from extauthz.demo.postgres import Postgres
from tests.servers.outages import OUTAGES, Outage, Victim, refused, silent, victim

WAIT = STATEMENT_TIMEOUT = 0.05
SHORT = Limits(attempt=0.25, hasty=0.1, idle=0.2, life=0.4)
LONGER = 0.8  # seconds: longer than each of these, than the silence that ends a connection, and than two in a row
AT_ONCE = 1.0  # seconds


@pytest.fixture
async def hurt(postgres_server: Postgres, database: str) -> AsyncIterator[Victim]:
    async with victim(postgres_server, database) as hurt:
        yield hurt


async def asked(pool: Pool) -> str:
    """The outcome of one query: empty where it was answered, else the reason."""
    try:
        await fetch(pool, "schema_version")
    except StoreUnavailable as error:
        return error.reason
    return ""


async def suffer(pool: Pool, seconds: float) -> None:
    """Queries fail, alone and in bursts, for that long and more than may wait."""
    until, times = monotonic() + seconds, 0
    while monotonic() < until or times <= pool.max_waiting:
        reasons = await asyncio.gather(*(asked(pool) for _ in range(1 if times % 3 else pool.max_waiting + 3)))
        assert all(reasons)
        times += 1
        await asyncio.sleep(0.01)


async def use_every_place(pool: Pool) -> None:
    """Has as many connections at once as the pool may have, within a second."""
    async with asyncio.timeout(AT_ONCE), AsyncExitStack() as stack:
        held = 0
        while held < pool.max_size:
            try:
                connection = await stack.enter_async_context(pool.connection())
                await connection.execute("SELECT")
                held += 1
            except (NoConnection, OperationalError):  # an attempt may still be from before
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("outage", "size"),
    [*((outage, 4) for outage in OUTAGES), (refused, 1), (silent, 1)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_a_pool_works_again_at_once(hurt: Victim, outage: Outage, size: int) -> None:
    """At its start or later, after an outage longer than every limit, each connection of a pool works in a second."""
    async with open_pool(hurt.dsn, size=size, wait=WAIT, statement_timeout=STATEMENT_TIMEOUT, limits=SHORT) as pool:
        for _ in range(2):
            async with outage(hurt):
                await suffer(pool, LONGER)
            await use_every_place(pool)
    assert not [task for task in asyncio.all_tasks() if "postgresql" in task.get_name()]
