"""Connections to PostgreSQL, opened in the background, and the named statements of our .sql files."""

import json
import logging
import re
import select
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, DataError, adapters
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from extauthz.backends.postgres.errors import translated
from extauthz.core.records import looks_like_id

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]

# Every failed attempt and every query given up would be a line; the guard says once that PostgreSQL is away.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

LOOKUPS_AT_ONCE = 10  # look-ups under way in one process
CLOSE_PATIENCE = 0.2  # seconds; a server that hangs would have us wait for ever
_NAMED = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def _statements() -> Mapping[str, str]:
    named: dict[str, str] = {}
    for file in ("lookups.sql", "queries.sql", "usage.sql"):
        parts = _NAMED.split(files("extauthz.backends.postgres").joinpath(file).read_text("utf-8"))
        # The name goes along, so that the server's logs and its list of activities show it.
        named |= {name: f"-- {name}{text.rstrip()}" for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return named


STATEMENTS = _statements()
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class _Moment(TimestamptzLoader):
    """PostgreSQL's times reach further than Python's; what lies beyond is the first or the last that Python has."""

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except DataError:
            text = bytes(data)
            return _FIRST if text.startswith(b"-") or text.endswith(b"BC") else _LAST


def _json(text: str | bytes) -> object:
    """JSON as a value; None, which is no record, where it is too deep or its numbers are too long to be read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_TYPES = AdaptersMap(adapters)
_TYPES.register_loader("timestamptz", _Moment)
set_json_loads(_json, _TYPES)


@asynccontextmanager
async def open_pool(dsn: str, *, size: int, wait: float, statement_timeout: float) -> AsyncIterator[Pool]:
    """A pool of at most `size` connections; nobody waits longer than `wait` seconds for one.

    It opens in the background, so PostgreSQL may come later, and survives its restart. The server ends statements after
    `statement_timeout` seconds; the operating system gives up a silent server after three times as long.
    """
    pool: Pool = AsyncConnectionPool(
        dsn,
        kwargs={"row_factory": dict_row, "autocommit": True, "prepare_threshold": None, "context": _TYPES}
        | _options(dsn, statement_timeout),
        min_size=1,
        max_size=size,
        timeout=wait,
        max_waiting=5 * size,
        reconnect_timeout=0,  # no back-off of its own: whoever asks tries again
        check=_check,
        open=False,
        name="extauthz",
    )
    await pool.open(wait=False)
    try:
        yield pool
    finally:
        await pool.close(timeout=CLOSE_PATIENCE)


async def _check(connection: AsyncConnection[DictRow]) -> None:
    """Raises OperationalError for a connection that has ended: then, and hardly ever else, there is something to read.

    Asking the server each time would double the queries of a look-up.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)


def _options(dsn: str, statement_timeout: float) -> dict[str, Any]:
    """Connection options that the owner of `dsn` has not chosen already."""
    ours = {
        "options": f"-c statement_timeout={round(statement_timeout * 1000)} -c timezone=UTC -c datestyle=ISO",
        "connect_timeout": 5,
        "tcp_user_timeout": round(statement_timeout * 3000),
        "application_name": "extauthz",
    }
    theirs = conninfo_to_dict(dsn)
    return {name: value for name, value in ours.items() if name not in theirs}


def as_id(text: str) -> UUID | None:
    """An id as the tables have it; None for a text that is none, also where Python would make one of it."""
    return UUID(text) if looks_like_id(text) else None


async def fetch(pool: Pool, statement: str, arguments: Mapping[str, object] | None = None) -> list[DictRow]:
    """The rows of a named statement. Raises StoreUnavailable."""
    with translated():
        async with pool.connection() as connection:
            cursor = await connection.execute(STATEMENTS[statement].encode(), arguments)
            return await cursor.fetchall() if cursor.description else []
