"""A change made in psql holds for the next requests of every service, with or without notifications."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis as Server
from extauthz.service.directory import invalidation
from tests.servers.fixtures import paused, stopped
from tests.servers.hurting_proxy import HurtingProxy
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.raw_http import Answer, ask
from tests.servers.reader import through
from tests.servers.serving import PATIENT, Serving, question, serving
from tests.servers.waiting import until

NOBODY = "postgresql://nobody@127.0.0.1:1/nowhere"  # where no message comes from
DEAF = PATIENT | {"EXTAUTHZ_NOTIFY_DATABASE_URL": NOBODY}
CHANGES = [
    ("UPDATE api_keys SET revoked_at = now()", "invalid_credentials"),
    ("UPDATE api_keys SET disabled_at = now()", "invalid_credentials"),
    ("UPDATE api_keys SET expires_at = now()", "invalid_credentials"),
    ("DELETE FROM api_keys", "invalid_credentials"),
    ("UPDATE api_keys SET permissions = '{}'", "permission_denied"),
    ("UPDATE organizations SET status = 'suspended'", "organization_suspended"),
    ("UPDATE organizations SET daily_quota = 0", "cost_exceeds_limit"),
    ("UPDATE plans SET daily_quota = 0 WHERE name = 'gold'", "cost_exceeds_limit"),
]
REVOKE = CHANGES[0][0]


@pytest.fixture
async def key(operator: ManagementClient) -> str:
    await operator.tenants.create_plan("gold", NO_LIMITS | {"daily_quota": 1_000_000})
    await operator.tenants.create_organization("acme", "gold")
    return (await operator.new_key("acme"))[1]


@pytest.fixture
async def service(key: str, database: str, redis_url: str) -> AsyncIterator[Serving]:
    async with serving(database, redis_url, **PATIENT) as running:
        await listens(running)
        yield running


async def listens(service: Serving, *, no_longer: bool = False) -> None:
    """Returns when messages of changes arrive, or when they do not."""

    async def flow() -> bool:
        return bool(service.value("extauthz_change_feed_down")) == no_longer

    await until(flow)


async def asked(service: Serving, key: str, path: str = "/x") -> Answer:
    return await ask(service.ports["envoy"], question("envoy", path, key=key))


async def decides(service: Serving, key: str, *, decision: str, seconds: float = 5, before: str = "allow") -> None:
    """Asks until the decision is this one; every one before it is that of `before`."""

    async def decided() -> bool:
        found = (await asked(service, key)).decision
        assert found in (before, decision)
        return found == decision

    await until(decided, seconds)


async def held(service: Serving, key: str) -> None:
    """Returns when the key is held by the process itself."""
    before = service.value("extauthz_api_key_cache_hits_total", layer="process")

    async def found() -> bool:
        assert (await asked(service, key)).decision == "allow"
        return service.value("extauthz_api_key_cache_hits_total", layer="process") > before

    await until(found)


@pytest.mark.parametrize(("statement", "decision"), CHANGES)
async def test_sql_takes_effect(
    service: Serving, operator: ManagementClient, key: str, statement: str, decision: str
) -> None:
    """A key that the process holds is denied moments after the statement, and stays denied."""
    await held(service, key)
    await operator.sql(statement)
    await decides(service, key, decision=decision)
    for _ in range(3):
        assert (await asked(service, key)).decision == decision


async def test_an_undone_change_takes_effect_too(service: Serving, operator: ManagementClient, key: str) -> None:
    """Disabled and enabled, suspended and resumed: the key works again moments later."""
    await held(service, key)
    for off, on, refused in (
        (CHANGES[1][0], "UPDATE api_keys SET disabled_at = NULL", "invalid_credentials"),
        (CHANGES[5][0], "UPDATE organizations SET status = 'active'", "organization_suspended"),
    ):
        await operator.sql(off)
        await decides(service, key, decision=refused)
        await operator.sql(on)
        await decides(service, key, decision="allow", before=refused)


async def test_expiry_is_to_the_second(service: Serving, operator: ManagementClient, key: str) -> None:
    """A held key that expires passes until then and no longer, without a message; then it is a cache miss."""
    await operator.sql("UPDATE api_keys SET expires_at = now() + interval '1.5 seconds'")
    await held(service, key)
    misses = service.value("extauthz_api_key_cache_misses_total")
    await decides(service, key, decision="invalid_credentials")
    (row,) = await operator.rows("SELECT now() - expires_at AS late FROM api_keys")
    assert 0 <= row["late"].total_seconds() < 1
    assert service.value("extauthz_api_key_cache_misses_total") >= misses + 1


async def test_two_services(
    service: Serving, database: str, redis_url: str, operator: ManagementClient, key: str
) -> None:
    """Both services receive the change; a record that one has read from PostgreSQL the other takes from Redis."""
    await held(service, key)
    async with serving(database, redis_url, **PATIENT) as other:
        await listens(other)
        assert (await asked(other, key)).decision == "allow"
        assert other.value("extauthz_api_key_cache_hits_total", layer="redis") == 1
        assert other.value("extauthz_api_key_cache_misses_total") == 0
        await held(other, key)
        await operator.sql(REVOKE)
        for each in (service, other):
            await decides(each, key, decision="invalid_credentials")


@pytest.mark.parametrize(("statement", "decision"), [CHANGES[0], CHANGES[3], CHANGES[5], CHANGES[7]])
async def test_a_service_without_notifications(
    service: Serving,
    database: str,
    redis_url: str,
    operator: ManagementClient,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    decision: str,
) -> None:
    """It confirms held records every few seconds, and the fence of another service keeps old ones in Redis from use."""
    monkeypatch.setattr(invalidation, "UNCONFIRMED_SECONDS", 0.3)
    async with serving(database, redis_url, **DEAF) as deaf:
        await held(deaf, key)
        assert deaf.value("extauthz_change_feed_down") == 1
        await operator.sql(statement)
        await decides(service, key, decision=decision)
        await decides(deaf, key, decision=decision)


async def test_without_cache(
    database: str, redis_url: str, operator: ManagementClient, key: str, tmp_path: Path
) -> None:
    """With the cache off, for all or for a route, the change holds for the very next request."""
    routes = tmp_path / "routes.toml"
    routes.write_text(
        '[[routes]]\npath = "/vault"\nresource = "x"\ncache = false\n\n[[routes]]\npath = "/x"\nresource = "x"\n'
    )
    off, by_route = {"API_KEY_CACHE_ENABLED": "false"}, {"EXTAUTHZ_CONFIG": str(routes)}
    async with (
        serving(database, redis_url, **DEAF, **off) as service,
        serving(database, redis_url, **DEAF, **by_route) as routed,
    ):
        for statement, decision in (
            ("UPDATE api_keys SET name = 'x'", "allow"),
            CHANGES[5],
            ("UPDATE organizations SET status = 'active'", "allow"),
            CHANGES[7],
            CHANGES[0],
        ):
            await operator.sql(statement)
            assert (await asked(service, key)).decision == decision
            assert (await asked(routed, key, "/vault")).decision == decision
        assert await operator.redis.keys("api_key_cache:*") == []


async def test_without_redis_a_revocation_takes_effect(
    service: Serving, operator: ManagementClient, key: str, redis_server: Server
) -> None:
    """Without Redis a revocation is not delayed; Redis gets the fence when it is back."""
    await held(service, key)
    (details,) = await operator.rows("SELECT id::text AS id FROM api_keys")
    with stopped(redis_server):
        await operator.sql(REVOKE)
        await decides(service, key, decision="invalid_credentials")

    async def fenced() -> bool:
        return service.health.readiness().ready and await operator.fence("api_key", details["id"]) is not None

    await until(fenced)


async def test_without_postgresql_a_cached_key_is_served_for_a_while(
    database: str, redis_url: str, key: str, postgres_server: Postgres
) -> None:
    """A key is served API_KEY_STALE_IF_ERROR seconds past its time, then it is unavailable until PostgreSQL is back."""
    seconds = {"API_KEY_CACHE_TTL": "1", "TENANT_QUOTA_CACHE_TTL": "1", "API_KEY_STALE_IF_ERROR": "1"}
    async with serving(database, redis_url, **PATIENT | seconds) as service:
        await held(service, key)
        with stopped(postgres_server):
            await decides(service, key, decision="authentication_unavailable", seconds=10)
        await decides(service, key, decision="allow", before="authentication_unavailable", seconds=10)


@pytest.mark.parametrize("writing", [False, True], ids=["nobody writes", "a long transaction"])
async def test_what_was_read_after_a_change_outlives_two_outages(
    operator: ManagementClient, database: str, redis_url: str, key: str, postgres_server: Postgres, writing: bool
) -> None:
    """A connection is lost and back before the next request, then PostgreSQL hangs: a current record is served,
    also where it was read while an older transaction was open.
    """
    async with (
        HurtingProxy("127.0.0.1", postgres_server.port) as between,
        serving(database, redis_url, **PATIENT, EXTAUTHZ_NOTIFY_DATABASE_URL=through(database, between)) as service,
        operator.pool.connection() as connection,
        connection.transaction(),
    ):
        await listens(service)
        if writing:
            await connection.execute("SELECT pg_current_xact_id()")
        await held(service, key)
        await operator.sql("UPDATE plans SET daily_quota = 777 WHERE name = 'gold'")

        async def read_anew() -> bool:
            return "q=777;" in (await asked(service, key))["ratelimit-policy"]

        await until(read_anew)
        await operator.sql("UPDATE api_keys SET last_used_at = now()")  # numbers go on
        await between.refuse()
        await listens(service, no_longer=True)
        await between.accept()
        await listens(service)
        with paused(postgres_server):
            for _ in range(3):
                assert (await asked(service, key)).decision == "allow"
