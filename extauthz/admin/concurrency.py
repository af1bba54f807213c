"""A bound for the operations under way: not more than there are connections, and none keeps its caller waiting."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog

from extauthz.admin.problems import Problem, store_problem
from extauthz.aio.tasks import TaskSet, result_or_abandon
from extauthz.core.errors import ExtauthzError

SLOT_TIMEOUT_SECONDS = 5.0
OPERATION_TIMEOUT_SECONDS = 10.0

T = TypeVar("T")


class ConcurrencyLimit:
    """At most `max_concurrency` operations at a time. One that takes too long keeps its slot until it ends."""

    def __init__(
        self,
        max_concurrency: int,
        *,
        slot_timeout: float = SLOT_TIMEOUT_SECONDS,
        operation_timeout: float = OPERATION_TIMEOUT_SECONDS,
    ) -> None:
        self._slots = asyncio.Semaphore(max_concurrency)
        self._slot_timeout = slot_timeout
        self._operation_timeout = operation_timeout
        self._under_way = TaskSet()

    async def take(self, operation: Coroutine[Any, Any, T]) -> T:
        """Return the result of an operation, begun once there is a slot; raises what it raises.

        Raises Problem 503: `busy` where there was no slot in time, so that it was not begun; `store_unavailable` where
        it was begun and has not ended. It is never cancelled: a driver whose server hangs would wait on all the same.
        """
        try:
            async with asyncio.timeout(self._slot_timeout):
                await self._slots.acquire()
        except BaseException as error:
            operation.close()
            if isinstance(error, TimeoutError):
                raise store_problem("busy", "too many calls wait for PostgreSQL; nothing was changed") from None
            raise
        task = self._under_way.start(operation)
        task.add_done_callback(self._free_slot)
        late = partial(_late, self._operation_timeout)
        return await result_or_abandon(task, self._operation_timeout, late=late, cancel=False, abandoned=_log_bug)

    async def close(self) -> None:
        """End the operations that are left over."""
        await self._under_way.close()

    def _free_slot(self, _: asyncio.Task[Any]) -> None:
        self._slots.release()


def _late(seconds: float) -> Problem:
    said = f"no answer within {seconds:g} seconds; whether anything was changed is not known"
    return store_problem("store_unavailable", said)


def _log_bug(task: asyncio.Task[Any]) -> None:
    """Log an unexpected error of an abandoned operation."""
    if not task.cancelled() and (error := task.exception()) and not isinstance(error, ExtauthzError):
        structlog.get_logger().error("unhandled_exception", exc_info=error)
