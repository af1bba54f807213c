"""One change by management: a transaction that names its actor, so that triggers can record it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from psycopg.rows import DictRow

from extauthz.backends.postgres.connection import PooledConnection
from extauthz.backends.postgres.errors import refused
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.statements import STATEMENTS
from extauthz.core.errors import VersionMismatch
from extauthz.core.preconditions import Wanted, holds

MINUTE_MS = 60_000


class Change:
    """A transaction under way."""

    def __init__(self, connection: PooledConnection) -> None:
        self._connection = connection

    async def fetch(self, statement: str, arguments: Mapping[str, object]) -> list[DictRow]:
        """The rows of a named statement."""
        cursor = await self._connection.execute(STATEMENTS[statement].encode(), arguments)
        return await cursor.fetchall() if cursor.description else []

    async def take_a_minute(self) -> None:
        """Gives the statements that follow time to go through all keys of a large organization."""
        await self._connection.be_patient(MINUTE_MS)

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """A part that may be refused without harm to the rest. Raises Conflict, InvalidInput."""
        with refused():
            async with self._connection.transaction():
                yield


@asynccontextmanager
async def changing(pool: Pool, actor: str, *, action: str = "", reason: str = "") -> AsyncIterator[Change]:
    """A transaction of `actor`; `action` as the audit log shall call it, where the change itself does not say.

    `reason` says why it is made.

    Raises Conflict, InvalidInput, StoreUnavailable, and what its body raises; then nothing was changed.
    """
    with refused():
        async with pool.connection() as connection, connection.transaction():
            change = Change(connection)
            await change.fetch("act", {"actor": actor, "action": action, "reason": reason})
            yield change


def expect(version: Wanted, current: int) -> None:
    """Raises VersionMismatch where a change was meant for another version than the current one."""
    if not holds(version, current):
        raise VersionMismatch(current)
