"""Work that goes on behind the checks."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

RESTART_DELAY_SECONDS = 1.0


async def forever(work: Callable[[], Awaitable[None]], *, pause: float = RESTART_DELAY_SECONDS) -> None:
    """Does work that never ends by itself. A bug in it is logged, and it is started again after a `pause` (seconds)."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - logged, whatever it is
            structlog.get_logger().exception("unhandled_exception", work=getattr(work, "__qualname__", "?"))
        await asyncio.sleep(pause)
