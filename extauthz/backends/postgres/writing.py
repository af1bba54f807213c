"""One change of a person: one transaction that says who makes it, so that triggers can write it down."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from extauthz.backends.postgres.errors import refused
from extauthz.backends.postgres.pool import STATEMENTS, Pool
from extauthz.core.errors import VersionMismatch


class Change:
    """A transaction under way."""

    def __init__(self, connection: AsyncConnection[DictRow]) -> None:
        self._connection = connection

    async def fetch(self, statement: str, arguments: Mapping[str, object]) -> list[DictRow]:
        """The rows of a named statement."""
        cursor = await self._connection.execute(STATEMENTS[statement].encode(), arguments)
        return await cursor.fetchall() if cursor.description else []

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """A part that may be refused without harm to the rest. Raises Conflict, InvalidInput."""
        with refused():
            async with self._connection.transaction():
                yield


@asynccontextmanager
async def changing(pool: Pool, actor: str, *, action: str = "") -> AsyncIterator[Change]:
    """A transaction of `actor`; `action` as the audit log shall call it, where the change itself does not say.

    Raises Conflict, InvalidInput, StoreUnavailable, and what its body raises; then nothing was changed.
    """
    with refused():
        async with pool.connection() as connection, connection.transaction():
            change = Change(connection)
            await change.fetch("act", {"actor": actor, "action": action})
            yield change


def expect(version: int | None, current: int) -> None:
    """Raises VersionMismatch where a change was meant for another version than the current one."""
    if version is not None and version != current:
        raise VersionMismatch(current)
