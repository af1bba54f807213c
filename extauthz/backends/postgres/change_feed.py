"""The change feed: LISTEN on a connection of its own, opened again after it was lost."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row

from extauthz.aio.tasks import result_or_abandon
from extauthz.backends.postgres import error_texts
from extauthz.backends.postgres.errors import translated
from extauthz.backends.postgres.statements import STATEMENTS
from extauthz.core.changes import CHANNEL, EVERYTHING, Change, EntityRef, parse_change
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL

LISTEN_TIMEOUT_SECONDS = 5.0  # until messages must arrive
HEARTBEAT_SECONDS = 2.0  # without a message, after which the server is asked for an answer
HEARTBEAT_TIMEOUT_SECONDS = 1.0
RETRY_INTERVAL_SECONDS = 0.25
POOLER_RETRY_INTERVAL_SECONDS = 30.0  # where the address leads to a pooler
TRANSACTION_SECONDS = 60.0  # for which a transaction may have been open when it dated its change
RECENT_CHANGES_MAX = 5000  # more of them are not told apart
# A peer that vanished is found within about three seconds.
_OPTIONS = {"connect_timeout": 5, "keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2}

_log = logging.getLogger("extauthz.changes")

T = TypeVar("T")
Listening = psycopg.AsyncConnection[DictRow]


class PostgresFeed:
    """Notifications of the triggers, and after every (re)connection what changed in the last `lately` seconds.

    A change that was passed on is not passed on again after a reconnection: what was read since includes it, though its
    version may not show that. Messages are always passed on.
    """

    def __init__(self, dsn: str, *, lately: float | None, arrived: Callable[[float], None] = lambda _: None) -> None:
        """`lately` None: the tables are managed elsewhere, and their changes are not recorded.

        `arrived` is told how many seconds a change took to arrive, of one change between two beats.
        """
        self._dsn = dsn
        self._arrived = arrived
        self._unmeasured: tuple[int, float] | None = None  # transaction of a change, and when it arrived
        self._lately = lately
        self._warned = False
        self._said, self._flowed = "", False
        self._told: dict[Change, None] = {}  # oldest first; what is dropped is passed on again

    async def follow(self, apply: Callable[[Change], None], flowing: Callable[[bool], None]) -> None:
        """Call `apply` for each change, until cancelled, and `flowing` when messages begin or cease to arrive."""
        while True:
            pause = RETRY_INTERVAL_SECONDS
            try:
                with translated():
                    if not await self._listen(apply, flowing):
                        pause = POOLER_RETRY_INTERVAL_SECONDS
            except StoreUnavailable as error:
                if error.reason == "client":  # not a failure of a server or a network
                    _log.error("unhandled_exception", exc_info=error)
                if not self._flowed:
                    self._tell_once(error.said)
            self._flowed = False
            flowing(False)
            await asyncio.sleep(pause)

    async def _listen(self, apply: Callable[[Change], None], flowing: Callable[[bool], None]) -> bool:
        """Listen until the connection is lost; return False where no message would come through it."""
        connect = psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None, **self._options()
        )
        connection = await _in_time(connect, LISTEN_TIMEOUT_SECONDS)
        try:
            if not await _in_time(self._begin(connection, apply), LISTEN_TIMEOUT_SECONDS):
                return False
            flowing(True)
            self._said, self._flowed = "", True
            while True:
                async for message in connection.notifies(timeout=HEARTBEAT_SECONDS):
                    change = parse_change(message.payload)
                    if change is not None:
                        self._unmeasured = self._unmeasured or (change.fence - 1, monotonic())
                        self._tell(change, apply)
                # An answer shows that messages arrive as well, because they come before it on the same connection.
                await _in_time(self._beat(connection), HEARTBEAT_TIMEOUT_SECONDS)
        finally:
            await connection.close()

    async def _beat(self, connection: Listening) -> None:
        """Ask for any answer; where a change arrived since the last one, for its age."""
        arrived, self._unmeasured = self._unmeasured, None
        if arrived is None or self._lately is None:
            await connection.execute("SELECT")
            return
        xact, arrived_at = arrived
        cursor = await connection.execute(STATEMENTS["change_age"].encode(), {"xact": xact})
        for row in await cursor.fetchall():
            self._arrived(row["seconds"] - (monotonic() - arrived_at))

    async def _begin(self, connection: Listening, apply: Callable[[Change], None]) -> bool:
        if not await self._is_direct(connection):
            return False
        await connection.execute(f"LISTEN {CHANNEL}".encode())
        await self._catch_up(connection, apply)
        return True

    async def _catch_up(self, connection: Listening, apply: Callable[[Change], None]) -> None:
        """Pass on what changed while the connection was lost; where that is not recorded, everything may have."""
        changes = await self._changed_lately(connection)
        if changes is None:
            cursor = await connection.execute(STATEMENTS["horizon"].encode())
            (row,) = await cursor.fetchall()
            apply(Change(EVERYTHING, row["horizon"]))
            return
        for change in changes - self._told.keys():
            self._tell(change, apply)

    async def _changed_lately(self, connection: Listening) -> set[Change] | None:
        """Return what changed in the last seconds; None where it is not recorded, or too much to be told apart."""
        if self._lately is None:
            return None
        arguments = {"seconds": self._lately + TRANSACTION_SECONDS, "at_most": RECENT_CHANGES_MAX}
        cursor = await connection.execute(STATEMENTS["changed_lately"].encode(), arguments)
        rows = await cursor.fetchall()
        if len(rows) == RECENT_CHANGES_MAX:
            return None
        return {Change(EntityRef(row["kind"], row["id"]), row["fence"]) for row in rows}

    def _tell(self, change: Change, apply: Callable[[Change], None]) -> None:
        apply(change)
        self._told.pop(change, None)
        self._told[change] = None
        if len(self._told) > RECENT_CHANGES_MAX:
            del self._told[next(iter(self._told))]

    async def _is_direct(self, connection: Listening) -> bool:
        """Whether the connection leads to PostgreSQL itself: a pooler reports another process, and drops LISTEN."""
        cursor = await connection.execute("SELECT pg_backend_pid() AS pid")
        row = await cursor.fetchone()
        direct = row is not None and row["pid"] == connection.info.backend_pid
        if not direct and not self._warned:
            self._warned = True
            _log.warning(
                "a pooler stands before PostgreSQL, so no message of a change arrives and caches end after their"
                " seconds; give EXTAUTHZ_NOTIFY_DATABASE_URL a direct connection"
            )
        return direct

    def _tell_once(self, said: str) -> None:
        """Log once why messages do not arrive, in the words of the server."""
        if said and said != self._said:
            self._said = said
            remedy = error_texts.remedy(said, "EXTAUTHZ_NOTIFY_DATABASE_URL or DATABASE_URL")
            # As one text, because the arguments of a library's line are left out of the log.
            _log.warning(f"messages of changes do not arrive: {said}; {remedy}")

    def _options(self) -> dict[str, Any]:
        theirs = conninfo_to_dict(self._dsn)
        return {name: value for name, value in _OPTIONS.items() if name not in theirs}


async def _in_time(call: Coroutine[Any, Any, T], seconds: float) -> T:
    """Return the result of a call. Raises StoreUnavailable where it takes too long: its task is then abandoned, because
    a driver that is cancelled while its server hangs would wait on.
    """
    task = asyncio.create_task(call)
    try:
        late = partial(StoreUnavailable, POSTGRESQL, "timeout")
        return await result_or_abandon(task, seconds, late=late, cancel=True)
    finally:
        if not task.done():
            await asyncio.sleep(0)  # so that it lets go of the socket before that is closed
