"""How a command of a person reaches Redis: by the client library. Checks share a `link`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig


@asynccontextmanager
async def connect(url: str, *, patience: float) -> AsyncIterator[Redis]:
    """A client of a single Redis that waits at most `patience` seconds. It connects when it is needed.

    Retries are off, and so are maintenance notifications, which would switch the check for stray replies off.
    """
    client = Redis.from_url(
        url,
        socket_timeout=patience,
        socket_connect_timeout=patience,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    try:
        yield client
    finally:
        await client.aclose()
