"""A whole service after a long outage of PostgreSQL: checks, usage, the admin API and external tables work at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

from extauthz.app import management, stores
from extauthz.backends.postgres.pool import Pool
from extauthz.demo.postgres import Postgres
from extauthz.service.usage import flush, last_used
from tests.servers.admin_api import Caller
from tests.servers.external_tables import SHA256, VALUE, run, sql
from tests.servers.management_client import ManagementClient
from tests.servers.outages import Outage, Victim, closed_database, refused, silent, victim
from tests.servers.raw_http import ask
from tests.servers.serving import Serving, question, serving

AT_ONCE = 1.0  # seconds
TOKEN = "a-token-of-operators-32-bytes-or-more"
OPS = {"EXTAUTHZ_ADMIN_TOKEN": f"ops:{TOKEN}"}
STEP = 0.02
LONGER = 1.0  # seconds: than every limit of `short`, twice
FOREIGN_TABLE = """CREATE TABLE foreign_keys (sha256 text, id text DEFAULT 'one', organization_id text DEFAULT 'acme',
                   permissions jsonb DEFAULT '{"*": ["read"]}', expires_at timestamptz)"""
LOOKUP_SQL = "SELECT id, organization_id, permissions, expires_at FROM foreign_keys WHERE sha256 = %(sha256)s"
CALLS = 40  # more than wait for a connection of the admin API


@pytest.fixture
async def hurt(postgres_server: Postgres, database: str) -> AsyncIterator[Victim]:
    async with victim(postgres_server, database) as hurt:
        yield hurt


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of seconds become fractions of a second, so that an outage outlasts them soon."""
    for module, name, value in (
        (stores, "BACKGROUND_TIMEOUT_SECONDS", 0.1),
        (management, "STORE_TIMEOUT_SECONDS", 0.1),
        (flush, "REFUSALS_INTERVAL_SECONDS", 0.1),
        (flush, "SAVE_INTERVAL_SECONDS", 0.2),
        (flush, "CALL_TIMEOUT_SECONDS", 0.2),
        (flush, "SAVE_TIMEOUT_SECONDS", 0.3),
        (last_used, "WRITE_INTERVAL_SECONDS", 0.2),
        (last_used, "WRITE_TIMEOUT_SECONDS", 0.2),
    ):
        monkeypatch.setattr(module, name, value)


async def within_a_second(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns when `holds` is true; fails after a second."""
    begun = monotonic()
    async with asyncio.timeout(AT_ONCE):
        while not await holds():  # noqa: ASYNC110 - there is no event for it in another process
            await asyncio.sleep(STEP)
    assert monotonic() - begun < AT_ONCE


async def suffer(service: Serving, key: str) -> None:
    """Calls of every kind fail, more than may wait, for longer than any limit."""
    ops, until, calls = Caller(service.ports["admin"], TOKEN.encode()), monotonic() + LONGER, 0
    while monotonic() < until or calls < CALLS:
        answers = await asyncio.gather(*(ops("GET", "/v1/plans") for _ in range(4)))
        assert {answer.status for answer in answers} == {503}
        answer = await ask(service.ports["envoy"], question("envoy", key=key))
        assert answer.decision == "authentication_unavailable"
        calls += len(answers)


async def allowed(service: Serving, key: str) -> bool:
    return (await ask(service.ports["envoy"], question("envoy", key=key))).decision == "allow"


async def works(service: Serving, operator: ManagementClient, key_id: str, key: str) -> None:
    """Everything that depends on PostgreSQL works within a second."""
    ops = Caller(service.ports["admin"], TOKEN.encode())

    async def managed() -> bool:
        return (await ops("GET", "/v1/plans")).status == 200

    async def written() -> bool:
        rows = await operator.rows(
            "SELECT FROM usage_daily JOIN api_keys ON id = api_key_id WHERE last_used_at > now() - interval '1 minute'"
            " AND allowed > 0 AND id::text = %s",
            key_id,
        )
        return len(rows) == 1

    await asyncio.gather(within_a_second(partial(allowed, service, key)), within_a_second(managed))
    await within_a_second(written)
    assert service.health.readiness().stores["postgresql"] == "ok"


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("outage", [refused, silent, closed_database], ids=lambda outage: outage.__name__)
async def test_every_pool_of_a_service_works_again_at_once(
    hurt: Victim, operator: ManagementClient, redis_url: str, outage: Outage
) -> None:
    """Started in an outage and through another: keys, usage, last use and the admin API work within a second."""
    (first_id, first), (second_id, second) = [await operator.new_key(f"customer {number}") for number in range(2)]
    async with AsyncExitStack() as stack:
        async with outage(hurt):
            service = await stack.enter_async_context(serving(hurt.dsn, redis_url, **OPS))
            await suffer(service, first)
        await works(service, operator, first_id.id, first)
        async with outage(hurt):
            await suffer(service, second)
        await works(service, operator, second_id.id, second)


async def test_foreign_tables_work_again_at_once(hurt: Victim, redis_url: str, pool: Pool, tmp_path: Path) -> None:
    """Keys that `lookup_sql` finds are found within a second after a long outage, at the start and later."""
    await run(pool, FOREIGN_TABLE)
    await sql(pool, "INSERT INTO foreign_keys VALUES (%s)", SHA256)
    (tmp_path / "extauthz.toml").write_text(f'[keys]\nlookup_sql = "{LOOKUP_SQL}"\n')
    async with AsyncExitStack() as stack:
        async with refused(hurt):
            service = await stack.enter_async_context(
                serving(hurt.dsn, redis_url, EXTAUTHZ_CONFIG=str(tmp_path / "extauthz.toml"))
            )
            await asyncio.sleep(LONGER)
        for _ in range(2):
            await within_a_second(partial(allowed, service, VALUE))
            async with closed_database(hurt):
                await asyncio.sleep(LONGER)
