"""Waiting: for events, and for states that can only be polled."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE = 30.0  # seconds that anything may take on a busy machine
BETWEEN = 0.01  # seconds


class News(asyncio.Event):
    """An event that is set whenever something has changed."""

    async def until(self, holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Returns as soon as `holds` does after some news; TimeoutError after so many seconds."""
        async with asyncio.timeout(seconds):
            while not holds():
                self.clear()
                await self.wait()


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float = PATIENCE) -> None:
    """Returns as soon as `holds` does; TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(BETWEEN)


def eventually(holds: Callable[[], bool]) -> None:
    """Returns as soon as `holds` does, without an event loop; fails when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(BETWEEN)
