"""Keys as a person manages them, on real stores."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from extauthz.core.errors import Conflict, InvalidInput, NotFound
from extauthz.core.permissions import FULL_ACCESS
from extauthz.demo.redis import Redis as Server
from tests.servers.fixtures import stopped
from tests.servers.office import KEY_FORMAT, Office

NOW = 1_800_000_000.0
NOBODY = "00000000-0000-0000-0000-000000000000"


async def test_the_life_of_a_key(office: Office) -> None:
    """A key is made with its key shown once, listed newest first, shown by id, and revoked for good."""
    await office.tenants.create_organization("acme")
    expires_at = datetime.now(UTC) + timedelta(days=30)
    permissions = {"customer": frozenset({"read", "write"}), "invoice": frozenset({"read"})}
    details, key = await office.keys.create("acme", name="ci", permissions=permissions, expires_at=expires_at)
    assert KEY_FORMAT.plausible(key)
    assert (details.name, details.permissions, details.expires_at) == ("ci", permissions, expires_at)
    assert details.handle == f"xa_live_…{key[-4:]}"
    second, other_key = await office.new_key("acme", permissions={})
    assert key != other_key
    assert await office.keys.list_of("acme") == [second, details]
    assert await office.keys.list_of(details.organization_id) == [second, details]
    assert await office.keys.show(details.id) == details
    revoked, told = await office.keys.revoke(details.id, last=False)
    assert told
    assert revoked.revoked_at is not None
    assert [each.status(datetime.now(UTC)) for each in await office.keys.list_of("acme")] == ["active", "revoked"]
    again, _ = await office.keys.revoke(details.id, last=False)
    assert again == revoked
    assert json.loads(json.dumps(revoked.to_json())) == {
        "id": details.id,
        "organization_id": details.organization_id,
        "name": "ci",
        "handle": details.handle,
        "permissions": {"customer": ["read", "write"], "invoice": ["read"]},
        "created_at": details.created_at.isoformat(),
        "expires_at": expires_at.isoformat(),
        "revoked_at": revoked.revoked_at.isoformat(),
        "disabled_at": None,
        "last_used_at": None,
    }


async def test_what_cannot_be_a_key_is_refused(office: Office) -> None:
    """An unknown organization, a resource that no route knows, an expiry in the past, a name that is none: no key."""
    await office.tenants.create_organization("acme")
    routed = office.key_service(KEY_FORMAT, resources=frozenset({"customer"}))
    past = datetime.now(UTC) - timedelta(seconds=1)
    for attempt, error, words in (
        (office.keys.create("umbrella", name="", permissions={}, expires_at=None), NotFound, "'umbrella'"),
        (office.keys.list_of("umbrella"), NotFound, "'umbrella'"),
        (office.keys.create("acme", name="", permissions={}, expires_at=past), InvalidInput, "is in the past"),
        (
            routed.create("acme", name="", permissions={"invoice": frozenset()}, expires_at=None),
            InvalidInput,
            "no route knows the resource invoice",
        ),
        (
            office.keys.create("acme", name="a\x1b[2J", permissions={}, expires_at=None),
            InvalidInput,
            "a key's name is at most 255 characters",
        ),
        (
            office.keys.create("acme", name="", permissions={"a b": frozenset()}, expires_at=None),
            InvalidInput,
            "the database refuses it (api_keys_permissions_valid)",
        ),
        (office.keys.show(NOBODY), NotFound, f"no key has the id '{NOBODY}'"),
        (office.keys.show("' OR true --"), NotFound, "no key has the id"),
        (office.keys.revoke("?" * 100, last=True), NotFound, f"no key has the id '{'?' * 64}'"),
    ):
        with pytest.raises(error) as refused:
            await attempt
        assert words in str(refused.value)
    assert await office.keys.list_of("acme") == []
    details, _ = await routed.create("acme", name="", permissions=FULL_ACCESS, expires_at=None)
    assert details.permissions == FULL_ACCESS


async def test_the_last_usable_key_stays_unless_it_is_meant(office: Office) -> None:
    """Revoked, disabled and expired keys do not count; with `last` an organization may be left without."""
    kept, _ = await office.new_key("acme")
    for column in ("expires_at", "disabled_at", "revoked_at"):
        other, _ = await office.new_key("acme")
        await office.sql(f"UPDATE api_keys SET {column} = now() WHERE id::text = %s", other.id)
    await office.new_key("umbrella")
    with pytest.raises(Conflict, match="the organization's last usable key; to revoke it all the same: --last"):
        await office.keys.revoke(kept.id, last=False)
    assert (await office.keys.show(kept.id)).revoked_at is None
    revoked, _ = await office.keys.revoke(kept.id, last=True)
    assert revoked.revoked_at is not None
    # A key that could not be used anyway is no last usable key.
    for key in await office.keys.list_of("acme"):
        await office.keys.revoke(key.id, last=False)


async def test_two_who_revoke_the_last_two_keys_do_not_both_succeed(office: Office) -> None:
    """However close together, one of two revocations of an organization's last two keys is refused."""
    for number in range(5):
        organization = f"acme {number}"
        ids = [(await office.new_key(organization))[0].id for _ in range(2)]
        outcomes = await asyncio.gather(*(office.keys.revoke(each, last=False) for each in ids), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "tuple"]
        statuses = [key.status(datetime.now(UTC)) for key in await office.keys.list_of(organization)]
        assert sorted(statuses) == ["active", "revoked"]


async def test_a_revocation_waits_for_another_of_the_same_organization(office: Office, database: str) -> None:
    """The count of usable keys and the revocation are one step: a change under way elsewhere is waited for and seen."""
    first, _ = await office.new_key("acme")
    second, _ = await office.new_key("acme")
    async with await psycopg.AsyncConnection.connect(database) as elsewhere:
        await elsewhere.execute("SELECT FROM organizations FOR UPDATE")
        await elsewhere.execute("UPDATE api_keys SET revoked_at = now() WHERE id::text = %s", [first.id])
        revocation = asyncio.create_task(office.keys.revoke(second.id, last=False))
        async with asyncio.timeout(10), office.pool.connection() as connection:
            while not await locks_waited_for(connection):
                assert not revocation.done()
        await elsewhere.commit()
    with pytest.raises(Conflict, match="last usable key"):
        await revocation


async def locks_waited_for(connection: psycopg.AsyncConnection[dict[str, object]]) -> bool:
    rows = await connection.execute("SELECT FROM pg_locks WHERE NOT granted")
    return rows.rowcount > 0


async def test_a_revocation_drops_the_cached_record(office: Office, redis_server: Server) -> None:
    """The shared cache forgets a revoked key at once; where it cannot be told, the caller is."""
    for reachable in (True, False):
        details, key = await office.new_key("acme")
        stored = await office.key_store.find(KEY_FORMAT.digest(key).digests, NOW)
        assert stored is not None
        await office.key_cache.put(stored.digest, stored.key, NOW)
        if reachable:
            assert (await office.keys.revoke(details.id, last=True))[1] is True
        else:
            with stopped(redis_server):
                revoked, told = await office.keys.revoke(details.id, last=True)
                assert (revoked.revoked_at is None, told) == (False, False)
        assert await office.key_cache.get([stored.digest], NOW) is None
        found = await office.key_store.find([stored.digest], NOW)
        assert found is not None
        assert not found.key.admits(NOW)


async def test_a_key_is_nowhere_stored(office: Office) -> None:
    """Neither the key nor its secret part is in any table of the database, nor under any name in Redis."""
    details, key = await office.new_key("acme")
    stored = await office.key_store.find(KEY_FORMAT.digest(key).digests, NOW)
    assert stored is not None
    await office.key_cache.put(stored.digest, stored.key, NOW)
    await office.tenant_cache.put(stored.key.tenant, NOW)
    secret = key.removeprefix("xa_live_")
    database, redis = await database_dump(office), await office.redis_dump()
    assert details.id in database
    assert stored.digest in database
    assert {name.partition(":")[0] for name in redis} == {"api_key_cache", "tenant_quota_cache"}
    everything = database + "\n".join(f"{name} {value}" for name, value in redis.items())
    for part in (secret, secret[:-6], secret[:8], secret.encode().hex()):
        assert part not in everything


async def database_dump(office: Office) -> str:
    """Every row of every table of ours, as text."""
    async with office.pool.connection() as connection:
        tables = await connection.execute("SELECT relid::regclass::text AS name FROM pg_stat_user_tables")
        names = [row["name"] for row in await tables.fetchall()]
        rows = [
            row["row"]
            for name in names
            for row in await (await connection.execute(f"SELECT t::text AS row FROM {name} t".encode())).fetchall()
        ]
    assert {"plans", "organizations", "api_keys"} <= set(names)
    return "\n".join(rows)
