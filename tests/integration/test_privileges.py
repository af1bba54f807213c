"""The triggers run as the owner of the tables; no role gets the owner's rights through them."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import errors as pg
from psycopg.sql import SQL, Identifier

from tests.servers.management_client import ManagementClient

FUNCTIONS = (
    "SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace ORDER BY 1"
)


@contextmanager
def role(database: str, *grants: str) -> Iterator[psycopg.Connection]:
    """A connection of a role with the rights of `grants`, and no others."""
    name = f"role of {database.rpartition('/')[2]}"
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(name)))
        for grant in grants:
            owner.execute(SQL(grant + " TO {}").format(Identifier(name)))
        try:
            with psycopg.connect(database, user=name, autocommit=True) as theirs:
                yield theirs
        finally:
            owner.execute(SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(Identifier(name)))


def test_triggers_cannot_be_put_on_other_tables(database: str) -> None:
    """A role that may log in cannot put a function that runs as the owner on a table of its own."""
    with role(database) as stranger:
        functions = [row[0] for row in stranger.execute(FUNCTIONS)]
        assert functions
        stranger.execute("CREATE TEMP TABLE bait (id text)")
        for function in functions:
            with pytest.raises(pg.InsufficientPrivilege):
                stranger.execute(f"CREATE TRIGGER t AFTER INSERT ON bait FOR EACH ROW EXECUTE FUNCTION {function}")


async def test_a_role_that_may_only_update_is_logged(database: str, operator: ManagementClient) -> None:
    """Another application needs only the right to update keys: the change is notified and in the audit log."""
    details, _ = await operator.new_key("acme")
    with role(database, "GRANT SELECT, UPDATE ON api_keys") as application:
        application.execute("UPDATE api_keys SET revoked_at = now() WHERE id::text = %s", (details.id,))
        with pytest.raises(pg.InsufficientPrivilege):
            application.execute("SELECT * FROM audit_log")
    entry = (await operator.audit.page(None, limit=1, cursor=None)).items[0]
    assert (entry.action, entry.subject_id) == ("api_key.revoke", details.id)
