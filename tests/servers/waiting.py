"""Waiting for what tells of itself only when asked, as a server does."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE = 10.0  # seconds that a change may take on a busy machine
BETWEEN = 0.01  # seconds


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = PATIENCE) -> None:
    """Returns as soon as `holds` does; TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - there is no event to await
            await asyncio.sleep(BETWEEN)
