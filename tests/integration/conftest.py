"""One running service for all tests of a file that only send it requests."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from extauthz.backends.postgres.pool import open_pool
from extauthz.backends.redis.topology import connect
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis
from tests.servers.doctor import Doctor
from tests.servers.fixtures import (
    database,
    empty_database,
    migrated,
    new_database,
    operator,
    pool,
    postgres_server,
    redis,
    redis_server,
    redis_url,
)
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.process import FREE_PORTS, settings
from tests.servers.serving import PATIENT, Serving, serving
from tests.servers.shell import Here

__all__ = [
    "database",
    "empty_database",
    "migrated",
    "operator",
    "pool",
    "postgres_server",
    "redis",
    "redis_server",
    "redis_url",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_office(
    postgres_server: Postgres, redis_server: Redis, migrated: str
) -> AsyncIterator[tuple[str, ManagementClient]]:
    """Management on a database of its own, and the database's address."""
    with new_database(postgres_server, template=migrated) as dsn:
        async with (
            open_pool(dsn, size=2, wait=5, statement_timeout=5) as pool,
            connect(redis_server.redis_url, patience=5) as redis,
        ):
            await redis.flushall()
            yield dsn, ManagementClient(pool, redis)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(shared_office: tuple[str, ManagementClient]) -> str:
    """A key with every permission, of an organization without limits."""
    _, operator = shared_office
    await operator.tenants.create_plan("free", NO_LIMITS)
    await operator.tenants.create_organization("acme", "free")
    return (await operator.new_key("acme"))[1]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["true", "false"], ids=["fast path", "full path"])
async def service(
    shared_office: tuple[str, ManagementClient], redis_server: Redis, request: pytest.FixtureRequest
) -> AsyncIterator[Serving]:
    """The whole service, with longer timeouts for a busy machine, with the fast path and without it."""
    dsn, _ = shared_office
    async with serving(dsn, redis_server.redis_url, EXTAUTHZ_FAST_PATH=request.param, **PATIENT) as running:
        yield running


@pytest.fixture
def silence(key: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No part of the key is in any log or on any output, and no traceback either."""
    caplog.set_level(logging.DEBUG)
    yield
    out, err = capfd.readouterr()
    told = caplog.text + out + err
    assert key[8:20] not in told
    assert "Traceback" not in told


@pytest.fixture(scope="module")
def unchanged(postgres_server: Postgres, migrated: str) -> Iterator[str]:
    """The address of a database for tests that only look."""
    with new_database(postgres_server, template=migrated) as dsn:
        yield dsn


@pytest.fixture
def doctor_shell(unchanged: str, redis_url: str, tmp_path: Path) -> Here:
    return Here(tmp_path, FREE_PORTS | settings(unchanged, redis_url))


@pytest.fixture
def doctor(doctor_shell: Here) -> Doctor:
    return Doctor(doctor_shell)
