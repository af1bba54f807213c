"""The topology of Redis, today one server: how commands reach it. Checks share a `RedisConnection`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, cast
from weakref import WeakKeyDictionary

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError
from redis.maint_notifications import MaintNotificationsConfig

CONNECTION_SECONDS = 1.0  # after which the address of Redis is resolved again: it may lead to another server by now


class _Pool(ConnectionPool):
    """Connections that do not stay with a server for long: one that was demoted keeps them open and answers reads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opened_at: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    async def ensure_connection(self, connection: Any) -> None:
        """A connected connection, a new one in place of one that is old."""
        now = monotonic()
        if now - self._opened_at.get(connection, now) > CONNECTION_SECONDS:
            await connection.disconnect()
        if not connection.is_connected:
            self._opened_at[connection] = now
        await super().ensure_connection(connection)


class _Client(Redis):
    """A client that asks once more, at the server that the address leads to now, where a replica refused to write."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """The answer of one command. A replica's refusal says that nothing was written, so it may be sent again."""
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # it has no hint
        except ReadOnlyError:
            await self.connection_pool.disconnect(inuse_connections=False)
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # it has no hint


@asynccontextmanager
async def connect(url: str, *, patience: float) -> AsyncIterator[Redis]:
    """A client of a single Redis that waits at most `patience` seconds. It connects when it is needed.

    Retries are off, and so are maintenance notifications, which would switch the check for stray replies off.
    """
    pool = _Pool.from_url(
        url,
        socket_timeout=patience,
        socket_connect_timeout=patience,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    client = _Client.from_pool(cast("ConnectionPool", pool))
    try:
        yield client
    finally:
        await client.aclose()
