"""Real PostgreSQL and Redis: one of each for a process of tests, a fresh database and an empty Redis for each test."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from redis.asyncio import Redis as RedisClient

from extauthz.backends.postgres import migrate
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.backends.redis.topology import connect
from extauthz.demo.folders import temporary_folder
from extauthz.demo.ports import ask
from extauthz.demo.postgres import Postgres
from extauthz.demo.process import Process
from extauthz.demo.redis import Redis
from tests.servers.management_client import ManagementClient

MEMORY_DISK_BYTES = 2 << 30  # free ones, so that several processes of tests fit in
_numbers = count(1)


def memory_disk() -> Path | None:
    """The system's disk in memory, where it has room and runs programs.

    There a database of its own costs a test a tenth of the time: each is 300 files that are made and removed.
    """
    disk = Path("/dev/shm")
    if not os.access(disk, os.W_OK) or shutil.disk_usage(disk).free < MEMORY_DISK_BYTES:
        return None
    return None if os.statvfs(disk).f_flag & os.ST_NOEXEC else disk


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with temporary_folder("extauthz test ", below=memory_disk()) as folder, Postgres(folder / "pg") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with temporary_folder("extauthz test ") as folder, Redis(folder / "redis") as server:
        yield server


@contextmanager
def new_database(server: Postgres, *, template: str = "template0") -> Iterator[str]:
    """The address of a database that did not exist before and does not afterwards."""
    name = f"test {next(_numbers)}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        # By files, since the other way writes all of it to the log, which costs most where the log is still short.
        connection.execute(
            SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(Identifier(name), Identifier(template))
        )
    try:
        yield server.dsn.rpartition("/")[0] + "/" + name.replace(" ", "%20")
    finally:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@contextmanager
def stopped(server: Process) -> Iterator[None]:
    """Stops the server, and starts it again on the same port afterwards."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def paused(server: Process) -> Iterator[None]:
    """Makes the server hang: it takes connections and answers nothing."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


async def keep_our_loop_busy(seconds: float, *, after: int) -> None:
    """Blocks the event loop, after so many of its passes."""
    for _ in range(after):
        await asyncio.sleep(0)
    time.sleep(seconds)  # noqa: ASYNC251 - that is the harm


@pytest.fixture(scope="session")
def migrated(postgres_server: Postgres) -> Iterator[str]:
    """The name of a database with the schema, as a template for others."""
    with new_database(postgres_server) as dsn:
        asyncio.run(migrate.upgrade(dsn))
        yield dsn.rpartition("/")[2].replace("%20", " ")


@pytest.fixture
def empty_database(postgres_server: Postgres) -> Iterator[str]:
    with new_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture
def database(postgres_server: Postgres, migrated: str) -> Iterator[str]:
    """The address of a fresh database with the schema."""
    with new_database(postgres_server, template=migrated) as dsn:
        yield dsn


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, size=5, wait=5, statement_timeout=5) as opened:
        yield opened


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The address of an empty Redis."""
    emptied = b"+OK\r\n+OK\r\n"
    assert ask(redis_server.port, b"FLUSHALL\r\nSCRIPT FLUSH\r\n", len(emptied)) == emptied
    return redis_server.redis_url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[RedisClient]:
    async with connect(redis_url, patience=5) as client:
        yield client


@pytest.fixture
def operator(pool: Pool, redis: RedisClient) -> ManagementClient:
    """Management of keys and tenants, as the command line has it."""
    return ManagementClient(pool, redis)
