"""Concurrent changes: none is lost, none is made by half, and a refused caller is told that nothing was changed."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import psycopg
import pytest

from extauthz.backends.postgres.keys import PostgresKeys
from extauthz.backends.postgres.pool import open_pool
from extauthz.backends.postgres.tenants import PostgresTenants
from extauthz.core.errors import Conflict, NotFound
from extauthz.core.management import KeyDetails, KeyTerms
from tests.servers.management_client import ACTOR, KEY_FORMAT, NO_LIMITS, PEPPERS, ManagementClient

FOREIGN = "sk-0123456789abcdef"


async def waiting(operator: ManagementClient, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
    """Work under way that waits for a lock."""
    task = asyncio.create_task(work)
    async with asyncio.timeout(10):
        while not await operator.rows("SELECT FROM pg_locks WHERE NOT granted"):
            assert not task.done()
    return task


async def test_one_key_under_two_peppers(operator: ManagementClient) -> None:
    """Two instances, on which different peppers sign, import one key at the same moment: it is stored once."""
    for name in ("acme", "umbrella"):
        await operator.tenants.create_organization(name)
    services = (operator.keys, operator.key_service(PEPPERS[::-1]))
    for number in range(10):
        key = f"{FOREIGN}{number}"
        attempts = [keys.import_key(name, key, KeyTerms()) for keys in services for name in ("acme", "umbrella")]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert len([each for each in outcomes if isinstance(each, KeyDetails)]) == 1
        assert len([each for each in outcomes if isinstance(each, Conflict)]) == 3


async def test_an_import_waits_for_another(operator: ManagementClient) -> None:
    """An import sees a key that another one has just stored, even under another pepper."""
    await operator.tenants.create_organization("acme")
    async with operator.pool.connection() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('extauthz import', 0))")
        second = await waiting(operator, operator.keys.import_key("acme", FOREIGN, KeyTerms()))
        await connection.execute(
            """INSERT INTO api_keys (organization_id, hash, pepper_id, handle, permissions)
               SELECT id, %s, 'p2', 'h', '{"*": ["read", "write"]}' FROM organizations""",
            [bytes.fromhex(KEY_FORMAT.digest(FOREIGN).digests[1])],
        )
    with pytest.raises(Conflict, match=r"there already as .*, under the pepper p2"):
        await second


async def test_keys_are_imported_in_the_order_of_their_digests(operator: ManagementClient) -> None:
    """Rows are locked in one order, so that imports do not deadlock; answers come in the order of the file."""
    await operator.tenants.create_organization("acme")
    items = [(f"{FOREIGN}{number}", KeyTerms(str(number))) for number in range(20)]
    outcomes = await operator.keys.import_many("acme", items)
    assert [each.name for each in outcomes if isinstance(each, KeyDetails)] == [terms.name for _, terms in items]
    stored = await operator.rows(
        "SELECT diff -> 'name' ->> 1 AS name FROM audit_log WHERE kind = 'api_key' ORDER BY id"
    )
    by_digest = sorted(items, key=lambda item: KEY_FORMAT.digest(item[0]).digests[0])
    assert [row["name"] for row in stored] == [terms.name for _, terms in by_digest]


async def test_a_deadlock_is_a_conflict(operator: ManagementClient, database: str) -> None:
    """The transaction that a deadlock ends is reported as a conflict: nothing was changed, and a retry helps."""
    acme = await operator.tenants.create_organization("acme")
    async with await psycopg.AsyncConnection.connect(database) as elsewhere:
        await elsewhere.execute("SET deadlock_timeout = '1min'")  # the other one finds it
        await elsewhere.execute("SELECT FROM plans FOR UPDATE")
        change = await waiting(operator, operator.tenants.update_organization("acme", {"burst": 5}))
        await elsewhere.execute("UPDATE organizations SET burst = 7")
        with pytest.raises(Conflict, match="others changed the same at this moment; nothing was changed, try it again"):
            await change
        await elsewhere.rollback()
    assert await operator.tenants.show_organization("acme") == acme


async def test_a_change_that_waits_for_another_plan(operator: ManagementClient, database: str) -> None:
    """An organization that gets another plan meanwhile is still there, on that plan."""
    acme = await operator.tenants.create_organization("acme")
    free = await operator.tenants.create_plan("free", NO_LIMITS)
    async with await psycopg.AsyncConnection.connect(database) as elsewhere:
        await elsewhere.execute("UPDATE organizations SET plan_id = %s", [free.id])
        change = await waiting(operator, operator.tenants.update_organization("acme", {"status": "suspended"}))
        await elsewhere.commit()
        await change
    after = await operator.tenants.show_organization(acme.id)
    assert (after.plan, after.status) == ("free", "suspended")


async def test_a_large_organization_has_time_to_go(operator: ManagementClient, database: str) -> None:
    """The deletion may take a minute, whatever the timeout of other statements; all keys go with it."""
    key, _ = await operator.new_key("acme")
    await operator.keys.disable(key.id)
    await operator.sql(
        """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_sleep(0.5); RETURN OLD; END $$;
           CREATE TRIGGER slow BEFORE DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION slow()"""
    )
    async with open_pool(database, size=1, wait=5, statement_timeout=0.2) as hasty:
        gone = await PostgresTenants(hasty, actor=ACTOR).delete_organization("acme")
        async with hasty.connection() as connection:  # the next one has no more time than before
            with pytest.raises(psycopg.errors.QueryCanceled):
                await connection.execute("SELECT pg_sleep(5)")
        with pytest.raises(NotFound, match="no key has the id"):
            await PostgresKeys(hasty, actor=ACTOR).show(key.id)
    assert gone.name == "acme"
