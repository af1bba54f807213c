"""Not more operations at once than there are connections for them, and none that keeps its caller for ever."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from extauthz.admin.problems import store_problem
from extauthz.core.errors import ExtauthzError

WAIT = 5.0  # seconds for a turn
PATIENCE = 10.0  # seconds for an operation
CANCEL_AGAIN = 0.1  # seconds

T = TypeVar("T")


class ConcurrencyLimit:
    """`places` operations at a time. One that takes too long keeps its place until it ends, whoever has gone."""

    def __init__(self, places: int, *, wait: float = WAIT, patience: float = PATIENCE) -> None:
        self._places = asyncio.Semaphore(places)
        self._wait = wait
        self._patience = patience
        self._under_way: set[asyncio.Task[Any]] = set()  # the loop alone would not keep them

    async def take(self, operation: Coroutine[Any, Any, T]) -> T:
        """What the operation makes, in its turn; raises what it raises.

        Raises Problem 503: `busy` where its turn did not come, so that it was not begun; `store_unavailable` where it
        was begun and has not ended. It is never cancelled: a driver whose server hangs would wait on all the same.
        """
        try:
            async with asyncio.timeout(self._wait):
                await self._places.acquire()
        except BaseException as error:
            operation.close()
            if isinstance(error, TimeoutError):
                raise store_problem("busy", "too many calls wait for PostgreSQL; nothing was changed") from None
            raise
        task = asyncio.create_task(operation)
        self._under_way.add(task)
        task.add_done_callback(self._end)
        try:
            await asyncio.wait({task}, timeout=self._patience)
        finally:
            if not task.done():
                task.add_done_callback(_tell)
        if not task.done():
            said = f"no answer within {self._patience:g} seconds; whether anything was changed is not known"
            raise store_problem("store_unavailable", said)
        return task.result()

    async def close(self) -> None:
        """Ends what is left over. Some, when cancelled, wait on for a hung server until cancelled again."""
        while self._under_way:
            for task in self._under_way:
                task.cancel()
            await asyncio.wait(self._under_way, timeout=CANCEL_AGAIN)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        self._places.release()


def _tell(task: asyncio.Task[Any]) -> None:
    """The failure of an operation that nobody waits for any more is nobody's; a bug in it is for the log."""
    if not task.cancelled() and (error := task.exception()) and not isinstance(error, ExtauthzError):
        structlog.get_logger().error("bug", exc_info=error)
