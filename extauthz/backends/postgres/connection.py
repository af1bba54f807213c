"""One connection of a pool: how it is made, how long its server may be silent, and how it ends."""

import asyncio
import json
import logging
import os
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any, TypeVar

from psycopg import AsyncConnection, DataError, Error, OperationalError, adapters, waiting
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads

from extauthz.backends.postgres.errors import Silent
from extauthz.backends.postgres.statements import STATEMENTS

# Each failed attempt and each abandoned query would be a line; the circuit breaker reports an outage once.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

DEFAULT_PORT = 5432
FOREVER = 3600.0  # seconds
SILENCE_FACTOR, SILENCE_MIN = 2.0, 0.3  # of a statement's time limit; seconds. The server ends a statement earlier.

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

RV = TypeVar("RV")


class PooledConnection(AsyncConnection[DictRow]):
    """A connection to PostgreSQL that does not wait for a server that hangs.

    `silence`: seconds without an answer after which the connection is given up. A task that is cancelled while it waits
    for an answer ends at once, and the connection with it: asking the server to cancel would wait for the same server.
    """

    silence = FOREVER
    direct = True  # False: through a pooler, where other clients have the same session
    made_at = used_at = 0.0  # monotonic seconds
    _silence_of_all = FOREVER

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:  # noqa: ASYNC109 - as the driver has it
        """Return the result of a step of the protocol. Raises Silent, OperationalError."""
        watch = _Watch(self)
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except asyncio.CancelledError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.end()
            raise
        except OperationalError as error:
            if watch.over:
                raise Silent(f"no answer within {self.silence:g} seconds") from error
            raise
        finally:
            watch.timer.cancel()

    async def be_patient(self, milliseconds: int) -> None:
        """Set the time limit of the statements of the transaction under way."""
        await self.execute(STATEMENTS["be_patient"].encode(), {"milliseconds": milliseconds})
        self.silence = _silence(milliseconds / 1000)

    def begin_use(self, *, statement_timeout: float, direct: bool) -> None:
        """Note that the session is fit for statements of extauthz."""
        self.direct = direct
        self.made_at = monotonic()
        self._silence_of_all = _silence(statement_timeout)
        self.rest(self.made_at)

    def rest(self, now: float) -> None:
        """Note that it is idle from `now` (monotonic seconds); the time limit of one transaction has ended."""
        self.used_at = now
        self.silence = self._silence_of_all

    @asynccontextmanager
    async def rest_of_transaction(self) -> AsyncIterator[None]:
        """Run the rest of the transaction that was begun, and end it."""
        try:
            yield
        except Exception:
            with suppress(Error):
                await self.execute("ROLLBACK")
            raise
        await self.execute("COMMIT")

    def usable(self) -> bool:
        """Whether an idle connection can be used: as a rule, only one that has ended has something to read.

        Asking the server each time would double the queries of a look-up.
        """
        return not self.closed and not self.can_read()

    def idle(self) -> bool:
        """Whether no transaction is under way, so that another caller may use it."""
        return not self.closed and self.pgconn.transaction_status == TransactionStatus.IDLE

    def sever(self) -> None:
        """End the traffic, so that a task which waits for an answer fails at once."""
        # Suppressed where it has ended already.
        with suppress(Exception), socket.socket(fileno=os.dup(self.pgconn.socket)) as same:
            same.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Close the connection without waiting for the server."""
        self._closed = True
        self.pgconn.finish()

    def can_read(self) -> bool:
        """Whether something has arrived, or the connection has ended."""
        poll = select.poll()
        with suppress(Exception):
            poll.register(self.pgconn.socket, select.POLLIN)
            return bool(poll.poll(0))
        return True


class _Watch:
    """Severs a connection whose server is silent for too long."""

    def __init__(self, connection: PooledConnection) -> None:
        self.over = False
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.timer = self._loop.call_later(connection.silence, self._look)

    def _look(self) -> None:
        if self._connection.can_read():  # the answer is there, and the loop is late
            self.timer = self._loop.call_later(self._connection.silence, self._look)
        else:
            self.over = True
            self._connection.sever()


async def connect(dsn: str, *, statement_timeout: float) -> PooledConnection:
    """Open a connection; the server ends each of its statements after `statement_timeout` seconds.

    Nothing is asked for at its start that a pooler such as PgBouncer would refuse. Raises what psycopg raises.
    """
    theirs = conninfo_to_dict(dsn)
    connection = await PooledConnection.connect(
        dsn,
        row_factory=dict_row,
        autocommit=True,
        prepare_threshold=None,
        context=_TYPES,
        **_options(theirs, statement_timeout),
    )
    milliseconds = None if "statement_timeout" in str(theirs.get("options")) else round(statement_timeout * 1000)
    arguments = {"pid": connection.pgconn.backend_pid, "milliseconds": milliseconds}
    try:
        cursor = await connection.execute(STATEMENTS["begin_session"].encode(), arguments)
        (row,) = await cursor.fetchall()
    except BaseException:
        connection.end()
        raise
    connection.begin_use(statement_timeout=statement_timeout, direct=row["direct"])
    return connection


def tls_address(dsn: str) -> tuple[str, int] | None:
    """Return host and port of the first server of an address; None where it cannot use TLS, or must not."""
    theirs = conninfo_to_dict(dsn)
    host = str(theirs.get("hostaddr") or theirs.get("host") or "").partition(",")[0]
    port = str(theirs.get("port") or "").partition(",")[0] or str(DEFAULT_PORT)
    if not host or host.startswith(("/", "@")) or theirs.get("sslmode") == "disable":
        return None
    return host, int(port)


def _silence(statement_timeout: float) -> float:
    """Return the seconds after which a server that should have ended a statement counts as silent."""
    return max(SILENCE_FACTOR * statement_timeout, SILENCE_MIN)


def _options(theirs: dict[str, Any], statement_timeout: float) -> dict[str, Any]:
    """Return the connection options that the address does not set."""
    ours = {
        "connect_timeout": 5,
        "tcp_user_timeout": round(statement_timeout * 3000),
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "application_name": "extauthz",
    }
    return {name: value for name, value in ours.items() if name not in theirs}


class _Moment(TimestamptzLoader):
    """Loads times; one beyond Python's range becomes the first or the last that Python has."""

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except DataError:
            text = bytes(data)
            return _FIRST if text.startswith(b"-") or text.endswith(b"BC") else _LAST


def _json(text: str | bytes) -> object:
    """Parse JSON; return None, which makes a record corrupt, where it is too deep or a number is too long."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_TYPES = AdaptersMap(adapters)
_TYPES.register_loader("timestamptz", _Moment)
set_json_loads(_json, _TYPES)
