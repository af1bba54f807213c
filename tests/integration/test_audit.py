"""The audit log: triggers write each change and its actor, and notify listeners, for every writer."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from extauthz.core.changes import Change, EntityRef, parse_change
from extauthz.core.errors import NotFound, StoreCorrupt
from extauthz.core.management import AuditFilter, KeyTerms
from tests.servers.management_client import ACTOR, KEY_FORMAT, NO_LIMITS, ManagementClient

Heard = Callable[[], Awaitable[list[str]]]


@pytest.fixture
async def heard(database: str) -> AsyncIterator[Heard]:
    """Ends a connection's listening with a message of its own; returns the payloads received before that."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("LISTEN extauthz")

        async def until_now() -> list[str]:
            await connection.execute("NOTIFY extauthz, 'now'")
            payloads = []
            async with asyncio.timeout(10):
                async for message in connection.notifies():
                    if message.payload == "now":
                        break
                    payloads.append(message.payload)
            return payloads

        yield until_now


async def test_every_change_leaves_a_row(operator: ManagementClient) -> None:
    """An entry has actor, action, time and a diff without digests; newest first."""
    await operator.tenants.create_plan("gold", NO_LIMITS | {"daily_quota": 5})
    await operator.tenants.update_plan("gold", {"daily_quota": None})
    acme = await operator.tenants.create_organization("acme", "gold")
    for status in ("suspended", "active"):
        await operator.tenants.update_organization("acme", {"status": status})
    key, secret = await operator.new_key("acme")
    await operator.keys.update(key.id, {"name": "new", "metadata": {"a": "b"}})
    await operator.keys.disable(key.id)
    await operator.keys.enable(key.id)
    rotated = await operator.keys.rotate(key.id, grace=timedelta(hours=1))
    imported = await operator.keys.import_key("acme", "sk-0123456789abcdef", KeyTerms())
    for each in (key, rotated.key, imported):
        await operator.keys.revoke(each.id, last=True)
    await operator.tenants.delete_organization("acme")
    await operator.tenants.delete_plan("gold")
    entries = (await operator.audit.page(limit=200)).items[::-1]
    assert [entry.action for entry in entries[:15]] == [
        *("plan.create", "plan.update", "organization.create", "organization.suspend", "organization.resume"),
        *("api_key.create", "api_key.update", "api_key.disable", "api_key.enable"),
        *("api_key.rotate", "api_key.rotate", "api_key.import"),
        *("api_key.revoke",) * 3,
    ]
    gone = ["api_key.delete"] * 3 + ["organization.delete", "plan.delete"]
    assert sorted(entry.action for entry in entries[15:]) == gone
    by_action = {entry.action: entry for entry in entries}
    assert {(entry.actor, entry.role) for entry in entries} == {(ACTOR, "extauthz")}
    assert entries[0].to_json()["role"] == "extauthz"
    assert all(datetime.now(UTC) - entry.at < timedelta(minutes=1) for entry in entries)
    assert by_action["plan.update"].diff == {"daily_quota": [5, None]}
    assert by_action["organization.suspend"].diff == {"status": ["active", "suspended"]}
    assert by_action["api_key.update"].diff == {"name": ["", "new"], "metadata": [{}, {"a": "b"}]}
    assert by_action["api_key.update"].subject_id == key.id
    assert by_action["plan.create"].organization_id is None
    assert {entry.organization_id for entry in entries if entry.kind != "plan"} == {acme.id}
    assert by_action["api_key.delete"].diff["name"][1] is None
    everything = json.dumps([entry.to_json() for entry in entries])
    for digest in (*KEY_FORMAT.digest(secret).digests, *KEY_FORMAT.digest(rotated.secret).digests):
        assert digest not in everything
    for word in ("hash", "row_version", "updated_at", "last_used_at"):
        assert word not in everything


async def test_pages_of_the_log(operator: ManagementClient) -> None:
    """All entries, or those of an organization by id or name; one that was deleted is found by its id."""
    acme = await operator.tenants.create_organization("acme")
    await operator.tenants.create_organization("umbrella")
    for status in ("suspended", "active") * 3:
        await operator.tenants.update_organization("acme", {"status": status})
    seen, cursor = [], None
    while True:
        page = await operator.audit.page("acme", limit=3, cursor=cursor)
        seen += [entry.action for entry in page.items]
        await operator.tenants.update_organization("acme", {"burst": 5})
        cursor = page.next
        if cursor is None:
            break
    assert seen == ["organization.resume", "organization.suspend"] * 3 + ["organization.create"]
    await operator.tenants.delete_organization("acme")
    assert (await operator.audit.page(acme.id, limit=1)).items[0].action == "organization.delete"
    assert (await operator.audit.page(acme.id.upper(), limit=1)).items[0].action == "organization.delete"
    with pytest.raises(NotFound, match="the id or name 'acme'; one that was deleted is found by its id"):
        await operator.audit.page("acme")


async def test_filters_of_the_log(operator: ManagementClient) -> None:
    """By plan, key, actor and time, alone and together; a deleted item is found by its id and has its last name."""
    acme = await operator.tenants.create_organization("acme")
    gold = await operator.tenants.create_plan("gold", NO_LIMITS)
    await operator.tenants.update_plan("gold", {"daily_quota": 5})
    key, _ = await operator.keys.create("acme", KeyTerms("ci"))
    await operator.keys.revoke(key.id, last=True)

    async def actions(only: AuditFilter, organization: str | None = None) -> list[str]:
        return [entry.action for entry in (await operator.audit.page(organization, only)).items]

    begun = (await operator.audit.page(limit=1)).items[0].at
    assert await actions(AuditFilter(plan="gold")) == ["plan.update", "plan.create"]
    assert await actions(AuditFilter(key_id=key.id.upper())) == ["api_key.revoke", "api_key.create"]
    assert await actions(AuditFilter(since=begun)) == ["api_key.revoke"]
    for actor in ("cli:tester", "tester"):
        assert await actions(AuditFilter(key_id=key.id, actor=actor), "acme") == ["api_key.revoke", "api_key.create"]
    for nothing in (AuditFilter(actor="ester"), AuditFilter(plan="gold", key_id=key.id)):
        assert await actions(nothing) == []
    await operator.tenants.delete_plan("gold")
    gone = (await operator.audit.page(only=AuditFilter(plan=gold.id))).items
    assert [(entry.action, entry.subject_name) for entry in gone][::2] == [
        ("plan.delete", "gold"),
        ("plan.create", "gold"),
    ]
    await operator.tenants.delete_organization("acme")
    assert await actions(AuditFilter(key_id=key.id), acme.id) == ["api_key.delete", "api_key.revoke", "api_key.create"]
    with pytest.raises(NotFound, match="no key has the id"):
        await actions(AuditFilter(key_id=acme.id))
    with pytest.raises(NotFound, match="a plan that was deleted is found by its id"):
        await actions(AuditFilter(plan="gold"))


async def test_a_refused_change_leaves_no_row(operator: ManagementClient, heard: Heard) -> None:
    """The entry is of the same transaction as the change: neither exists without the other, and no message is sent."""
    details, _ = await operator.new_key("acme")
    before, _ = await operator.audit.page(), await heard()
    for refused in (
        operator.keys.update(details.id, {"name": "a\x01"}),
        operator.keys.update(details.id, {"name": "a"}, version=9),
        operator.keys.revoke(details.id, last=False),
        operator.tenants.create_organization("acme"),
        operator.tenants.delete_organization("acme"),
    ):
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
            await refused
    assert await operator.audit.page() == before
    assert await heard() == []


async def test_a_change_by_hand_works_like_the_api(operator: ManagementClient, heard: Heard) -> None:
    """A change in psql is numbered, dated, logged under the role's name, and notified with its transaction."""
    key, _ = await operator.new_key("acme")
    plan = await operator.tenants.show_plan("default")
    await heard()
    for statement, thing, action in (
        ("UPDATE api_keys SET revoked_at = now()", EntityRef("api_key", key.id), "api_key.revoke"),
        (
            "UPDATE organizations SET status = 'suspended'",
            EntityRef("organization", key.organization_id),
            "organization.suspend",
        ),
        ("UPDATE plans SET burst = 21", EntityRef("plan", plan.id), "plan.update"),
    ):
        (before,) = await operator.rows("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS version")
        await operator.sql(statement)
        (told,) = [parse_change(message) for message in await heard()]
        assert isinstance(told, Change)
        assert told.thing == thing
        assert before["version"] < told.fence <= await operator.key_store.horizon()
        newest = (await operator.audit.page(limit=1)).items[0]
        assert (newest.actor, newest.action, newest.subject_id) == ("sql:extauthz", action, thing.id)
    shown = await operator.keys.show(key.id)
    assert (shown.row_version, shown.status(datetime.now(UTC))) == (2, "revoked")
    assert shown.updated_at > key.updated_at


async def test_a_use_of_a_key_is_not_a_change(operator: ManagementClient, heard: Heard) -> None:
    """A use is neither logged nor notified nor numbered; nor is an update that leaves all values as they were."""
    key, _ = await operator.new_key("acme")
    entries = await operator.audit.page()
    await heard()
    await operator.sql("UPDATE api_keys SET last_used_at = now()")
    await operator.sql("UPDATE api_keys SET name = name, permissions = permissions")
    await operator.sql("UPDATE plans SET row_version = 99, updated_at = '2000-01-01'")
    assert await heard() == []
    assert await operator.audit.page() == entries
    used = await operator.keys.show(key.id)
    assert used.last_used_at is not None
    assert (used.row_version, used.updated_at) == (key.row_version, key.updated_at)
    assert (await operator.tenants.show_plan("default")).row_version == 1


async def test_an_actor_and_a_meaning_are_for_one_transaction(operator: ManagementClient) -> None:
    """The actor and the action that a session sets hold for one kind of entity and one transaction alone."""
    await operator.new_key("acme")
    async with operator.pool.connection() as connection:
        async with connection.transaction():
            await connection.execute("SELECT set_config('extauthz.actor', 'token:ops', true)")
            await connection.execute("SELECT set_config('extauthz.action', 'api_key.rotate', true)")
            await connection.execute("UPDATE api_keys SET name = 'a'")
            await connection.execute("UPDATE organizations SET burst = 5")
        await connection.execute("UPDATE api_keys SET name = 'b'")
    newest = (await operator.audit.page(limit=3)).items[::-1]
    assert [(entry.actor, entry.action) for entry in newest] == [
        ("token:ops", "api_key.rotate"),
        ("token:ops", "organization.update"),
        ("sql:extauthz", "api_key.update"),
    ]


async def test_a_role_that_may_only_change_keys_is_logged(operator: ManagementClient) -> None:
    """A role that cannot write the audit log cannot avoid it, and a temporary table does not take its place."""
    key, _ = await operator.new_key("acme")
    await operator.sql("CREATE ROLE clerk")
    try:
        await operator.sql("GRANT SELECT, UPDATE, DELETE ON api_keys TO clerk")
        async with operator.pool.connection() as connection, connection.transaction():
            await connection.execute("CREATE TEMP TABLE audit_log (LIKE public.audit_log) ON COMMIT DROP")
            await connection.execute("SET LOCAL ROLE clerk")
            await connection.execute("UPDATE api_keys SET revoked_at = now()")
            await connection.execute("DELETE FROM api_keys")
    finally:
        await operator.sql("DROP OWNED BY clerk")
        await operator.sql("DROP ROLE clerk")
    newest = (await operator.audit.page(limit=2)).items
    assert [(entry.action, entry.subject_id) for entry in newest] == [
        ("api_key.delete", key.id),
        ("api_key.revoke", key.id),
    ]
    assert len(await operator.rows("SELECT FROM retired_hashes")) == 1


async def test_the_role_of_a_session_is_logged(operator: ManagementClient, database: str) -> None:
    """A session chooses its actor; the role it logged in with is logged beside it, and cannot be chosen."""
    await operator.new_key("acme")
    await operator.sql("CREATE ROLE clerk LOGIN")
    try:
        await operator.sql("GRANT SELECT, UPDATE ON api_keys TO clerk")
        async with await psycopg.AsyncConnection.connect(database.replace("extauthz@", "clerk@")) as connection:
            await connection.execute("SET extauthz.actor = 'token:ops'")
            await connection.execute("UPDATE api_keys SET name = 'new'")
    finally:
        await operator.sql("DROP OWNED BY clerk")
        await operator.sql("DROP ROLE clerk")
    newest = (await operator.audit.page(limit=1)).items[0]
    assert (newest.actor, newest.role, newest.diff) == ("token:ops", "clerk", {"name": ["", "new"]})


@pytest.mark.parametrize("diff", ['{"sesame": 1}', '{"name": ["sesame"]}', '{"name": ["sesame", 1, 2]}', '["sesame"]'])
async def test_a_corrupt_entry(operator: ManagementClient, diff: str) -> None:
    """An entry that was written by hand is named, and its value is not repeated."""
    insert = "INSERT INTO audit_log (actor, action, kind, subject_id, diff) VALUES ('', '', '', '', %s)"
    if diff.startswith("["):
        with pytest.raises(psycopg.errors.CheckViolation, match="audit_log_diff_valid"):
            await operator.sql(insert, diff)
        await operator.drop_checks()
    await operator.sql(insert, diff)
    (newest,) = await operator.rows("SELECT max(id) AS id FROM audit_log")
    with pytest.raises(StoreCorrupt, match=f"audit entry {newest['id']}: diff is not an object of") as corrupt:
        await operator.audit.page()
    assert "sesame" not in str(corrupt.value)
