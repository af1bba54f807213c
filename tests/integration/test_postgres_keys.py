"""Keys in real PostgreSQL: found by digest, and corrupt rows."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from psycopg.types.json import Jsonb

from extauthz.backends.postgres.keys import PostgresKeys
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.backends.postgres.records import PostgresKeySource, PostgresTenantSource
from extauthz.core.credentials import Credential, KeyFormat
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.management import KeyTerms
from extauthz.core.tenants import Tenant
from extauthz.demo.postgres import Postgres
from tests.servers.fixtures import stopped
from tests.servers.management_client import ACTOR, KEY_FORMAT, PEPPERS, ManagementClient

NOW = 1_800_000_000.0
UNKNOWN = Credential(("00" * 32,))
WORD = "sesame"  # part of every corrupt value, and must not be in an error

NONSENSE: list[tuple[str, str, object]] = [
    ("api_keys", "permissions", Jsonb([WORD])),
    ("api_keys", "permissions", Jsonb(None)),
    ("api_keys", "permissions", "[" * 5000 + "]" * 5000),
    ("api_keys", "permissions", "9" * 5000),
    ("api_keys", "permissions", Jsonb({"customer": {WORD: True}})),
    ("api_keys", "permissions", Jsonb({"customer": [[WORD]]})),
    ("api_keys", "permissions", Jsonb({"customer": [{}]})),
    ("api_keys", "permissions", Jsonb({f"{WORD} {WORD}": ["read"]})),
    ("api_keys", "expires_at", "-infinity"),
    ("api_keys", "expires_at", "4713-01-01 BC"),
    ("api_keys", "revoked_at", "infinity"),
    ("api_keys", "rate", WORD),
    ("api_keys", "burst", 0),
    ("api_keys", "daily_quota", -1),
    ("organizations", "timezone", WORD),
    ("organizations", "anchor", 32),
    ("organizations", "limits", WORD),
    ("organizations", "rate", WORD),
    ("organizations", "rate", "0"),
    ("organizations", "burst", -1),
    ("organizations", "daily_quota", -1),
    ("organizations", "status", WORD),
    ("plans", "rate", f"1/{WORD}"),
    ("plans", "rate", None),
    ("plans", "burst", 10**18),
    ("plans", "monthly_quota", 10**13),
    ("plans", "name", f"{WORD}\r\nx-plan: {WORD}"),
]


NO_QUOTAS = {"daily_quota": None, "monthly_quota": None}


async def find(operator: ManagementClient, digests: Sequence[str]) -> ApiKey | StoreCorrupt | None:
    """What a check finds under the first of these digests that is stored."""
    (found,) = await PostgresKeySource(operator.pool).find([Credential(tuple(digests))], NOW)
    return found


async def digests_of(operator: ManagementClient, organization: str) -> tuple[str, tuple[str, ...]]:
    """A new key of an organization with a plan of its own: its id and digests."""
    await operator.tenants.create_plan(f"plan of {organization}", {"rate": "5/s", "burst": 5} | NO_QUOTAS)
    await operator.tenants.create_organization(organization, f"plan of {organization}")
    details, key = await operator.new_key(organization)
    return details.id, KEY_FORMAT.digest(key).digests


async def test_a_key_is_found_with_all_that_a_check_needs(operator: ManagementClient) -> None:
    """One read brings the key, its organization and the limits that hold, marked with the time of the read."""
    details, key = await operator.new_key(
        "acme", permissions={"customer": frozenset({"read"})}, expires_at=datetime(2100, 1, 1, tzinfo=UTC)
    )
    await operator.tenants.update_organization("acme", {"daily_quota": 7})
    digests = KEY_FORMAT.digest(key).digests
    stored = await find(operator, digests)
    assert isinstance(stored, ApiKey)
    found = stored
    assert found.digest == digests[0]
    assert (found.id, found.organization_id) == (details.id, details.organization_id)
    assert found.permissions == {"customer": {"read"}}
    assert (found.expires_at, found.revoked_at, found.disabled_at) == (4102444800.0, None, None)
    assert (found.loaded_at, found.tenant.loaded_at) == (NOW, NOW)
    assert (found.tenant.id, found.tenant.plan, found.tenant.status) == (details.organization_id, "default", "active")
    assert found.tenant.limits.rate == Rate(10, 1)
    assert (found.tenant.limits.burst, found.tenant.limits.quotas[0]) == (20, 7)
    assert found.version == found.tenant.version > 0
    (tenant,) = await PostgresTenantSource(operator.pool).find([details.organization_id], NOW)
    assert isinstance(tenant, Tenant)
    assert found.tenant == replace(tenant, version=found.version)
    assert tenant.version >= found.version


async def test_a_keys_own_limits_come_with_it(operator: ManagementClient) -> None:
    """Beside those of its organization, whose calendar and end of overrides come along."""
    details, key = await operator.new_key("acme")
    digests = KEY_FORMAT.digest(key).digests
    stored = await find(operator, digests)
    assert isinstance(stored, ApiKey)
    assert stored.limits == Limits()
    await operator.keys.update(details.id, {"rate": "1/min", "burst": 3, "daily_quota": 0})
    await operator.sql("UPDATE organizations SET timezone = 'Asia/Tokyo', burst = 7, overrides_until = '2030-01-01Z'")
    stored = await find(operator, digests)
    assert isinstance(stored, ApiKey)
    assert stored.limits == Limits(Rate(1, 60), 3, 0, None)
    (tenant,) = await PostgresTenantSource(operator.pool).find([details.organization_id], NOW)
    assert isinstance(tenant, Tenant)
    assert stored.tenant == replace(tenant, version=stored.version)
    assert (stored.tenant.calendar.timezone, stored.tenant.plan_limits.burst) == ("Asia/Tokyo", 20)


async def test_an_unknown_key_is_nothing(operator: ManagementClient) -> None:
    """A digest without a row finds nothing, without an error."""
    assert await find(operator, ("00" * 32, "ff" * 32)) is None


async def test_either_pepper_finds_a_key(operator: ManagementClient) -> None:
    """While peppers change, keys made with the one before are found, under the digest that they are stored with."""
    before = KeyFormat(prefix="xa", env="live", peppers=PEPPERS[1:])
    await operator.tenants.create_organization("acme")
    details, key = await operator.key_service(PEPPERS[1:]).create("acme", KeyTerms())
    digests = KEY_FORMAT.digest(key).digests
    assert digests[1:] == before.digest(key).digests
    stored = await find(operator, digests)
    assert isinstance(stored, ApiKey)
    assert (stored.digest, stored.id) == (digests[1], details.id)


async def test_the_signing_pepper_comes_first(operator: ManagementClient) -> None:
    """Where one key is stored with both peppers, the record of the signing one holds."""
    first, key = await operator.new_key("acme")
    second, _ = await operator.new_key("acme")
    digests = KEY_FORMAT.digest(key).digests
    await operator.sql("UPDATE api_keys SET hash = %s WHERE id::text = %s", bytes.fromhex(digests[1]), second.id)
    for order, expected in ((digests, first.id), (digests[::-1], second.id)):
        stored = await find(operator, order)
        assert isinstance(stored, ApiKey)
        assert stored.id == expected


async def test_of_two_rows_for_one_key_the_revoked_one_wins(operator: ManagementClient) -> None:
    """A key that was revoked under one pepper is not admitted under another, whichever signs."""
    _, key = await operator.new_key("acme")
    second, _ = await operator.new_key("acme")
    digests = KEY_FORMAT.digest(key).digests
    await operator.sql("UPDATE api_keys SET hash = %s WHERE id::text = %s", bytes.fromhex(digests[1]), second.id)
    await operator.keys.revoke(second.id, last=False)
    for order in (digests, digests[::-1]):
        stored = await find(operator, order)
        assert isinstance(stored, ApiKey)
        assert stored.id == second.id
        assert not stored.admits(0)


async def test_an_infinite_expiry_is_none(operator: ManagementClient) -> None:
    """PostgreSQL's 'infinity' is a key that never expires, for a check and for an operator."""
    details, key = await operator.new_key("acme")
    await operator.sql("UPDATE api_keys SET expires_at = 'infinity'")
    stored = await find(operator, KEY_FORMAT.digest(key).digests)
    assert isinstance(stored, ApiKey)
    assert stored.expires_at is None
    assert stored.admits(1e300)
    listed = await operator.keys.list_of("acme")
    assert [each.status(datetime(9999, 1, 1, tzinfo=UTC)) for each in listed] == ["active"]
    assert await operator.keys.show(details.id) == listed[0]


async def test_a_time_beyond_pythons_can_be_listed(operator: ManagementClient) -> None:
    """A time that only PostgreSQL can hold does not hide an organization's keys from an operator."""
    await operator.new_key("acme")
    for written, status in (("-infinity", "expired"), ("4713-01-01 BC", "expired"), ("20000-01-01", "active")):
        await operator.sql("UPDATE api_keys SET expires_at = %s", written)
        assert [each.status(datetime(9999, 1, 1, tzinfo=UTC)) for each in await operator.keys.list_of("acme")] == [
            status
        ]


async def test_a_time_is_shown_as_it_was_given(operator: ManagementClient, database: str) -> None:
    """An operator sees the expiry to the microsecond, in UTC, whatever the database's own time zone and style."""
    at = datetime(2100, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    details, _ = await operator.new_key("acme", expires_at=at)
    assert details.expires_at == at
    name = database.rpartition("/")[2].replace("%20", " ")
    await operator.sql(f"""ALTER DATABASE "{name}" SET timezone = 'Asia/Kolkata'""")
    await operator.sql(f"""ALTER DATABASE "{name}" SET datestyle = 'German'""")
    async with open_pool(database, size=1, wait=5, statement_timeout=5) as pool:
        shown = await PostgresKeys(pool, actor=ACTOR).show(details.id)
    assert (shown.expires_at, shown.to_json(at)["expires_at"]) == (at, "2100-01-02T03:04:05.678901+00:00")


async def test_a_corrupt_row_does_not_affect_others(operator: ManagementClient, subtests: pytest.Subtests) -> None:
    """A corrupt row is named, its value is not repeated, and keys of other organizations are as they were."""
    _, others = await digests_of(operator, "umbrella")
    await operator.drop_checks()
    for number, (table, column, value) in enumerate(NONSENSE):
        with subtests.test(table=table, column=column, value=str(value)[:40]):
            name = f"acme {number}"
            key_id, digests = await digests_of(operator, name)
            row = {"api_keys": key_id, "organizations": name, "plans": f"plan of {name}"}[table]
            identity = "id::text" if table == "api_keys" else "name"
            await operator.sql(f"UPDATE {table} SET {column} = %s WHERE {identity} = %s", value, row)
            corrupt = await find(operator, digests)
            assert isinstance(corrupt, StoreCorrupt)
            assert f"key {key_id}: " in str(corrupt)
            assert corrupt.store == "postgresql"
            assert WORD not in str(corrupt)
            assert await find(operator, others) is not None


async def reason_of(dsn: str) -> str:
    """Why the store is away, for a caller with a long deadline."""
    async with open_pool(dsn, size=1, wait=0.5, statement_timeout=0.2) as pool:
        with pytest.raises(StoreUnavailable) as away:
            await PostgresKeySource(pool).find([UNKNOWN], NOW)
    assert away.value.store == "postgresql"
    return away.value.reason


async def test_an_unusable_schema_is_named(database: str, operator: ManagementClient) -> None:
    """A missing table, and one without the right to read it, have other reasons than a server that is away."""
    await operator.sql("CREATE ROLE stranger LOGIN")
    try:
        assert await reason_of(database.replace("extauthz@", "stranger@")) == "authentication"
    finally:
        await operator.sql("DROP ROLE stranger")
    await operator.sql("ALTER TABLE api_keys RENAME TO other_keys")
    assert await reason_of(database) == "schema"


async def test_a_server_that_refuses_connections_is_away(postgres_server: Postgres, database: str) -> None:
    """A role that does not exist, a database that is gone and a server that is stopped: each by its reason."""
    assert await reason_of(database.replace("extauthz@", "nobody@")) == "authentication"
    assert await reason_of(database + "%20gone") == "connection"
    with stopped(postgres_server):
        assert await reason_of(database) == "connection"


async def test_a_locked_table_is_a_timeout(database: str, operator: ManagementClient) -> None:
    """The server itself ends a statement that takes too long."""
    async with operator.pool.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE api_keys")
        assert await reason_of(database) == "timeout"


async def test_too_many_waiting_callers_are_refused(pool: Pool) -> None:
    """Once enough callers wait for a connection, further ones are refused at once: busy."""
    async with AsyncExitStack() as held:
        for _ in range(pool.max_size):
            await held.enter_async_context(pool.connection())
        keys = PostgresKeySource(pool)
        calls = [asyncio.create_task(keys.find([UNKNOWN], NOW)) for _ in range(pool.max_waiting + 1)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        (error,) = [call.exception() for call in done]
        assert isinstance(error, StoreUnavailable)
        assert error.reason == "busy"
    assert await asyncio.gather(*waiting) == [[None]] * pool.max_waiting
