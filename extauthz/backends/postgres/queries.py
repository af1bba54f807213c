"""How named statements are run: what only reads is asked again where its connection was dead."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import psycopg
from psycopg.rows import DictRow

from extauthz.backends.postgres.errors import ended_before, translated
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.statements import STATEMENTS

T = TypeVar("T")


async def fetch(pool: Pool, statement: str, arguments: Mapping[str, object] | None = None) -> list[DictRow]:
    """The rows of a named statement that changes nothing. Raises StoreUnavailable.

    It is asked once more where the connection turns out to be dead: that costs a new connection, and is not an outage.
    """
    with translated():
        return await again_if_dead(partial(_rows, pool, statement, arguments))


async def again_if_dead(call: Callable[[], Awaitable[T]]) -> T:
    """What `call` returns, which changes nothing in PostgreSQL: a second time where its connection had ended."""
    try:
        return await call()
    except psycopg.OperationalError as error:
        if not ended_before(error):
            raise
    return await call()


async def execute(pool: Pool, statement: str, arguments: Mapping[str, object] | None = None) -> list[DictRow]:
    """The rows of a named statement that changes something, which is never sent twice. Raises StoreUnavailable."""
    with translated():
        return await _rows(pool, statement, arguments)


async def _rows(pool: Pool, statement: str, arguments: Mapping[str, object] | None) -> list[DictRow]:
    async with pool.connection() as connection:
        cursor = await connection.execute(STATEMENTS[statement].encode(), arguments)
        return await cursor.fetchall() if cursor.description else []
