"""A pool of connections to PostgreSQL, opened on demand; a dead connection is replaced, and is not an outage."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg

from extauthz.aio.tasks import WAIT_SLICES, countable
from extauthz.backends.postgres.connection import PooledConnection, connect
from extauthz.backends.postgres.errors import NoConnection
from extauthz.backends.postgres.statements import STATEMENTS

MAX_CONCURRENT_LOOKUPS = 10  # in one process
CLOSE_TIMEOUT_SECONDS = 0.2  # because a server that hangs may never answer

T = TypeVar("T")
Connect = Callable[[], Coroutine[Any, Any, PooledConnection]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that one attempt to connect may take, after which another one is made beside it, that a connection may be
    idle, and that it may last.
    """

    attempt: float = 5.0
    hasty: float = 0.4
    idle: float = 600.0
    life: float = 3600.0


class Pool:
    """At most `size` connections. A caller waits at most `wait` seconds for one.

    While the server is away an attempt to connect is made whenever a caller asks, one at a time; its failure is given
    to all callers that wait then. So the first caller after the server came back gets a connection. A slow server has
    `Limits.attempt` seconds; meanwhile another attempt is made every `Limits.hasty` seconds, because packets that were
    lost while the server was away are not sent again.
    """

    def __init__(self, connect: Connect, *, size: int, wait: float, local: str, limits: Limits) -> None:
        """`local` begins a transaction with the settings of a session, for connections through a pooler."""
        self.max_size = size
        self.max_waiting = 5 * size
        self._connect = connect
        self._wait = wait
        self._local = local.encode()
        self._limits = limits
        self._idle: list[PooledConnection] = []  # the last used is the last
        self._leased: set[PooledConnection] = set()
        self._waiting: dict[asyncio.Future[PooledConnection], None] = {}  # in their order
        self._attempts: dict[asyncio.Task[None], float] = {}  # and when each began (monotonic seconds)
        self._attempted_at = 0.0
        self._trouble: Exception | None = None  # why the last attempt failed
        self._proven = False  # the last attempt succeeded
        self._closed = False
        self._given_back = asyncio.Event()
        self.operations = 0  # times that a connection was asked for
        self.clock_skew: float | None = None  # see core/clock.py

    @property
    def idle(self) -> int:
        """Connections that are not in use."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections in use."""
        return len(self._leased)

    @property
    def waiting(self) -> int:
        """Callers without a connection."""
        return len(self._waiting)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PooledConnection]:
        """Lease a connection to the caller alone. Raises NoConnection.

        Through a pooler all of it is one transaction, because each transaction may have another session.
        """
        self.operations += 1
        connection = await self._lease()
        try:
            if connection.direct:
                yield connection
            else:
                async with connection.rest_of_transaction():
                    yield connection
        except pg.ReadOnlySqlTransaction:
            # A server that was demoted keeps its connections; the address may lead to another by now.
            self._end_idle()
            connection.end()
            raise
        finally:
            self._give_back(connection)

    async def close(self) -> None:
        """End every connection, without waiting for a server that hangs; statements under way fail."""
        self._closed = True
        attempts = list(self._attempts)
        for attempt in attempts:
            attempt.cancel()
        self._refuse_all(None)
        while self._idle:
            self._idle.pop().end()
        for connection in self._leased:
            connection.sever()
        if self._leased:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                    await self._given_back.wait()
        if attempts:
            await asyncio.wait(attempts, timeout=CLOSE_TIMEOUT_SECONDS)

    async def _lease(self) -> PooledConnection:
        while True:
            fresh = not self._idle
            connection = await self._take()
            if connection.direct:
                return connection
            try:
                await connection.execute(self._local)
            except BaseException as error:
                self._give_back(connection)
                # Nothing was asked yet, so the next connection may be tried: this one had ended while it was idle.
                if fresh or not isinstance(error, psycopg.OperationalError) or not connection.closed:
                    raise
            else:
                return connection

    async def _take(self) -> PooledConnection:
        if self._closed:
            raise NoConnection(None)
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                self._leased.add(connection)
                return connection
            connection.end()
        if len(self._waiting) >= self.max_waiting:
            raise NoConnection(None, busy=True)
        return await self._wait_for_one()

    async def _wait_for_one(self) -> PooledConnection:
        """Wait for a connection that is opened or given back."""
        place: asyncio.Future[PooledConnection] = asyncio.get_running_loop().create_future()
        self._waiting[place] = None
        until = monotonic() + self._wait
        try:
            while not place.done():
                now = monotonic()
                if now >= until:
                    raise NoConnection(self._trouble)
                self._attempt_where_due()
                # In slices, because one turn of a busy loop may take longer than the whole wait.
                seconds = min(until - now, self._limits.hasty, self._wait / WAIT_SLICES)
                await asyncio.wait({place}, timeout=seconds)
                elapsed = monotonic() - now
                until += elapsed - countable(elapsed, seconds)
            return place.result()
        except asyncio.CancelledError:
            if place.done() and not place.exception():
                self._give_back(place.result())
            raise
        finally:
            self._waiting.pop(place, None)

    def _attempt_where_due(self) -> None:
        """Make as many attempts to connect as there are callers for them; one at a time while none succeeds."""
        now = monotonic()
        under_way = len(self._attempts)
        room = self.max_size - len(self._leased) - len(self._idle) - under_way
        wanted = len(self._waiting) - under_way
        since = now - self._attempted_at
        if not self._proven:
            wanted = min(wanted, 1 - under_way)
            if self._leased and self._trouble is not None and since < self._limits.hasty:
                return  # perhaps there are too many connections; one of this pool is given back soon
        for _ in range(min(wanted, room)):
            self._attempt(self._limits.attempt)
        if under_way and self._waiting and since >= self._limits.hasty:
            self._proven = False
            self._attempt(self._limits.hasty)

    def _attempt(self, seconds: float) -> None:
        self._attempted_at = monotonic()
        attempt = asyncio.create_task(self._make(seconds), name="connect to postgresql")
        self._attempts[attempt] = self._attempted_at
        attempt.add_done_callback(lambda done: self._attempts.pop(done, None))

    async def _make(self, seconds: float) -> None:
        """Make one attempt to connect; give its outcome to the callers that wait."""
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connect()
        except TimeoutError:
            self._failed(pg.ConnectionTimeout(f"no answer within {seconds:g} seconds"))
        except Exception as error:  # noqa: BLE001 - any failure is given to the callers that wait
            self._failed(error)
        else:
            self._made(connection)

    def _failed(self, error: Exception) -> None:
        self._trouble, self._proven = error, False
        self._attempts.pop(_this_task(), None)
        # An answer says more than attempts that hang since before; where there was none, they may still succeed.
        young = -inf if isinstance(error, pg.ConnectionTimeout) else monotonic() - self._limits.hasty
        hopeful = any(began > young for began in self._attempts.values())
        if not self._leased and not hopeful:
            self._refuse_all(error)

    def _made(self, connection: PooledConnection) -> None:
        self._attempts.pop(_this_task(), None)
        if not self._proven:
            for other in self._attempts:
                other.cancel()  # it began while the server was away
        self._trouble, self._proven = None, True
        self._hand_on(connection)
        self._attempt_where_due()

    def _refuse_all(self, error: Exception | None) -> None:
        waiting, self._waiting = self._waiting, {}
        for place in waiting:
            if not place.done():
                place.set_exception(NoConnection(error))

    def _hand_on(self, connection: PooledConnection) -> None:
        """Give a connection to the caller that has waited longest, or keep it."""
        while self._waiting and not self._closed:
            place = next(iter(self._waiting))
            del self._waiting[place]
            if not place.done():
                self._leased.add(connection)
                place.set_result(connection)
                return
        if self._closed or len(self._leased) + len(self._idle) >= self.max_size:
            connection.end()
        else:
            self._idle.append(connection)

    def _give_back(self, connection: PooledConnection) -> None:
        self._leased.discard(connection)
        now = monotonic()
        if connection.idle() and now - connection.made_at < self._limits.life:
            connection.rest(now)
            self._hand_on(connection)
        else:
            if connection.broken:
                self._end_idle()  # what ended this one has ended them, too: a restart, a router that lost its state
            connection.end()
        while self._idle and now - self._idle[0].used_at > self._limits.idle:
            self._idle.pop(0).end()
        if self._waiting:
            self._attempt_where_due()
        if not self._leased:
            self._given_back.set()

    def _end_idle(self) -> None:
        while self._idle:
            self._idle.pop().end()


def _this_task() -> Any:
    return asyncio.current_task()


@asynccontextmanager
async def open_pool(
    dsn: str, *, size: int, wait: float, statement_timeout: float, limits: Limits | None = None
) -> AsyncIterator[Pool]:
    """Open a pool of at most `size` connections; no caller waits longer than `wait` seconds for one.

    Nothing is connected before it is asked for, so PostgreSQL may come later. The server ends statements after
    `statement_timeout` seconds; a server that is silent for longer has lost the connection.
    """
    milliseconds = round(statement_timeout * 1000)
    pool = Pool(
        partial(connect, dsn, statement_timeout=statement_timeout),
        size=size,
        wait=wait,
        local=STATEMENTS["begin_locally"].format(milliseconds=milliseconds),
        limits=limits or Limits(),
    )
    try:
        yield pool
    finally:
        await pool.close()
