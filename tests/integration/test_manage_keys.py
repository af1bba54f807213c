"""Keys as an operator manages them, on real stores."""

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest

from extauthz.backends.postgres.records import PostgresKeySource
from extauthz.core.errors import Conflict, InvalidInput, LastUsableKey, NotFound
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits
from extauthz.core.management import KeyTerms
from extauthz.core.permissions import FULL_ACCESS
from extauthz.demo.redis import Redis as Server
from tests.servers.fixtures import stopped
from tests.servers.management_client import KEY_FORMAT, ManagementClient

NOW = 1_800_000_000.0
NOBODY = "00000000-0000-0000-0000-000000000000"


async def test_the_life_of_a_key(operator: ManagementClient) -> None:
    """A key is made with its key shown once, listed newest first, shown by id, and revoked for good."""
    await operator.tenants.create_organization("acme")
    expires_at = datetime.now(UTC) + timedelta(days=30)
    permissions = {"customer": frozenset({"read", "write"}), "invoice": frozenset({"read"})}
    details, key = await operator.keys.create("acme", KeyTerms("ci", permissions, expires_at, {"team": "blue"}))
    assert KEY_FORMAT.plausible(key)
    assert (details.name, details.permissions, details.expires_at) == ("ci", permissions, expires_at)
    assert details.handle == f"xa_live_…{key[-4:]}"
    second, other_key = await operator.new_key("acme", permissions={"invoice": frozenset({"read"})})
    assert key != other_key
    assert await operator.keys.list_of("acme") == [second, details]
    assert await operator.keys.list_of(details.organization_id) == [second, details]
    assert await operator.keys.show(details.id) == details
    revoked, told = await operator.keys.revoke(details.id, last=False)
    assert told
    assert revoked.revoked_at is not None
    assert [each.status(datetime.now(UTC)) for each in await operator.keys.list_of("acme")] == ["active", "revoked"]
    again, _ = await operator.keys.revoke(details.id, last=False)
    assert again == revoked
    assert json.loads(json.dumps(revoked.to_json(datetime.now(UTC)))) == {
        "id": details.id,
        "organization_id": details.organization_id,
        "name": "ci",
        "handle": details.handle,
        "permissions": {"customer": ["read", "write"], "invoice": ["read"]},
        "status": "revoked",
        "metadata": {"team": "blue"},
        **Limits().to_record(),
        "created_at": details.created_at.isoformat(),
        "updated_at": revoked.updated_at.isoformat(),
        "expires_at": expires_at.isoformat(),
        "revoked_at": revoked.revoked_at.isoformat(),
        "disabled_at": None,
        "last_used_at": None,
        "rotated_to": None,
        "version": 2,
    }


async def test_an_invalid_key_is_refused(operator: ManagementClient) -> None:
    """An unknown organization or resource, an invalid expiry or an invalid name: no key is made."""
    await operator.tenants.create_organization("acme")
    routed = operator.key_service(resources=frozenset({"customer"}))
    now = datetime.now(UTC)
    for terms, words in (
        (KeyTerms(expires_at=now - timedelta(seconds=1)), "is in the past"),
        (KeyTerms(expires_at=datetime(9999, 1, 1, tzinfo=UTC)), "must be at most in the year 9998"),
        (
            KeyTerms(expires_at=datetime(9998, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=1)))),
            "in the year 9998, in UTC",
        ),
        (KeyTerms(expires_at=datetime.max.replace(tzinfo=timezone(-timedelta(hours=23)))), "in the year 9998"),
        (KeyTerms(expires_at=datetime(2100, 1, 1)), "must have a time zone"),  # noqa: DTZ001 - that is the mistake
        (KeyTerms(permissions={"invoice": frozenset()}), "no route has the resource invoice"),
        (KeyTerms(permissions={"a b": frozenset()}), "a resource must be 1 to 64 of"),
        (KeyTerms(permissions={"customer": frozenset({"admin"})}), "a mode must be read or write (got 'admin')"),
        (KeyTerms(name="a\x1b[2J"), "name must hold no control and no invisible character"),
        (KeyTerms(name="nul\0"), "(got U+0000)"),
        (KeyTerms(name="half \udcff"), "cannot hold NUL or half a character"),
        (KeyTerms(metadata={"": "x"}), "a name in metadata must have 1 to 64 characters"),
        (KeyTerms(metadata={"a": "x" * 501}), "must be a text of at most 500 characters"),
        (KeyTerms(metadata={f"{number}": "" for number in range(51)}), "more than 50 entries"),
        (KeyTerms(metadata={"a": "\0"}), "NUL or half a character"),
        (KeyTerms(metadata={"\udcff": "a"}), "NUL or half a character"),
    ):
        with pytest.raises(InvalidInput) as refused:
            await routed.create("acme", terms)
        assert words in str(refused.value)
    for attempt, error_words in (
        (operator.keys.create("umbrella", KeyTerms()), "'umbrella'"),
        (operator.keys.list_of("umbrella"), "'umbrella'"),
        (operator.keys.show(NOBODY), f"no key has the id '{NOBODY}'"),
        (operator.keys.show("' OR true --"), "no key has the id"),
        (operator.keys.revoke("?" * 100, last=True), f"no key has the id '{'?' * 64}'"),
        (operator.keys.update(NOBODY, {"name": "a"}), "no key has the id"),
        (operator.keys.rotate(NOBODY, grace=timedelta(0)), "no key has the id"),
    ):
        with pytest.raises(NotFound) as missing:
            await attempt
        assert error_words in str(missing.value)
    assert await operator.keys.list_of("acme") == []
    details, _ = await routed.create("acme", KeyTerms())
    assert details.permissions == FULL_ACCESS


async def test_the_last_usable_key_stays_unless_it_is_meant(operator: ManagementClient) -> None:
    """Revoked, disabled, expired and rotated keys, and those without permissions, do not count; `last` allows it."""
    kept, _ = await operator.new_key("acme")
    for column in ("expires_at", "disabled_at", "revoked_at"):
        other, _ = await operator.new_key("acme")
        await operator.sql(f"UPDATE api_keys SET {column} = now() WHERE id::text = %s", other.id)
    for nothing in ({}, {"customer": frozenset[str](), "invoice": frozenset[str]()}):
        await operator.new_key("acme", permissions=nothing)
    ending, _ = await operator.new_key("acme")
    successor = (await operator.keys.rotate(ending.id, grace=timedelta(hours=1))).key
    await operator.keys.revoke(successor.id, last=False)
    await operator.new_key("umbrella")
    with pytest.raises(LastUsableKey, match="the organization's last usable key"):
        await operator.keys.revoke(kept.id, last=False)
    assert (await operator.keys.show(kept.id)).revoked_at is None
    revoked, _ = await operator.keys.revoke(kept.id, last=True)
    assert revoked.revoked_at is not None
    with pytest.raises(Conflict, match=r"still has usable keys \(3\)"):  # they are admitted, if only for a while
        await operator.tenants.delete_organization("acme")
    # A key that is not usable does not count as the last usable one.
    for key in await operator.keys.list_of("acme"):
        await operator.keys.revoke(key.id, last=False)


async def test_two_revocations_of_the_last_two_keys_do_not_both_succeed(operator: ManagementClient) -> None:
    """However close together, one of two revocations of an organization's last two keys is refused."""
    for number in range(5):
        organization = f"acme {number}"
        ids = [(await operator.new_key(organization))[0].id for _ in range(2)]
        outcomes = await asyncio.gather(
            *(operator.keys.revoke(each, last=False) for each in ids), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LastUsableKey", "tuple"]
        statuses = [key.status(datetime.now(UTC)) for key in await operator.keys.list_of(organization)]
        assert sorted(statuses) == ["active", "revoked"]


async def test_a_revocation_waits_for_another_of_the_same_organization(
    operator: ManagementClient, database: str
) -> None:
    """The count of usable keys and the revocation are one step: it waits for a concurrent change, and sees it."""
    first, _ = await operator.new_key("acme")
    second, _ = await operator.new_key("acme")
    async with await psycopg.AsyncConnection.connect(database) as elsewhere:
        await elsewhere.execute("SELECT FROM organizations FOR UPDATE")
        await elsewhere.execute("UPDATE api_keys SET revoked_at = now() WHERE id::text = %s", [first.id])
        revocation = asyncio.create_task(operator.keys.revoke(second.id, last=False))
        async with asyncio.timeout(10), operator.pool.connection() as connection:
            while not await locks_waited_for(connection):
                assert not revocation.done()
        await elsewhere.commit()
    with pytest.raises(Conflict, match="last usable key"):
        await revocation


async def locks_waited_for(connection: psycopg.AsyncConnection[dict[str, object]]) -> bool:
    rows = await connection.execute("SELECT FROM pg_locks WHERE NOT granted")
    return rows.rowcount > 0


async def test_a_revocation_raises_a_fence(operator: ManagementClient, redis_server: Server) -> None:
    """The shared cache refuses every record that was read before; where it is away, the caller is told."""
    for reachable in (True, False):
        details, key = await operator.new_key("acme")
        credential = KEY_FORMAT.digest(key)
        (before,) = await PostgresKeySource(operator.pool).find([credential], NOW)
        assert isinstance(before, ApiKey)
        if reachable:
            assert (await operator.keys.revoke(details.id, last=True))[1] is True
            fence = await operator.fence("api_key", details.id)
            assert fence is not None
            assert before.version < fence
            (fresh,) = await PostgresKeySource(operator.pool).find([credential], NOW)
            assert isinstance(fresh, ApiKey)
            assert fresh.version >= fence
        else:
            with stopped(redis_server):
                revoked, told = await operator.keys.revoke(details.id, last=True)
                assert (revoked.revoked_at is None, told) == (False, False)
        (after,) = await PostgresKeySource(operator.pool).find([credential], NOW)
        assert isinstance(after, ApiKey)
        assert not after.admits(NOW)


async def test_a_key_is_nowhere_stored(operator: ManagementClient) -> None:
    """Neither the key nor its secret part is in any table of the database, nor under any name in Redis."""
    details, key = await operator.new_key("acme")
    rotated = await operator.keys.rotate(details.id, grace=timedelta(hours=1))
    foreign = "foreign-key-of-somebody-else-0123"
    await operator.keys.import_key("acme", foreign, KeyTerms())
    database, redis = await database_dump(operator), await operator.redis_dump()
    assert details.id in database
    assert KEY_FORMAT.digest(key).digests[0] in database
    everything = database + "\n".join(f"{name} {value}" for name, value in redis.items())
    for each in (key, rotated.secret, foreign):
        secret = each.removeprefix("xa_live_")
        for part in (secret, secret[:-6], secret[:8], secret.encode().hex()):
            assert part not in everything
    assert rotated.secret not in repr(rotated)


async def database_dump(operator: ManagementClient) -> str:
    """Every row of every table of extauthz, as text."""
    async with operator.pool.connection() as connection:
        tables = await connection.execute("SELECT relid::regclass::text AS name FROM pg_stat_user_tables")
        names = [row["name"] for row in await tables.fetchall()]
        rows = [
            row["row"]
            for name in names
            for row in await (await connection.execute(f"SELECT t::text AS row FROM {name} t".encode())).fetchall()
        ]
    assert {"plans", "organizations", "api_keys"} <= set(names)
    return "\n".join(rows)
