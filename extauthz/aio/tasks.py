"""Bounded waits for tasks, and ways to end tasks: cancelled until they are over, or abandoned.

A bounded wait is counted in slices, so that the lateness of our own event loop is not taken for the lateness of the
peer that a task waits for.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

WAIT_SLICES = 8  # parts in which a bounded wait is counted
LOOP_LATENESS_SECONDS = 0.005  # a timer that fires later than this shows that the loop was busy
LAST_LOOKS = 3  # passes of the loop in which a result that has already arrived is read and parsed
CANCEL_AGAIN_SECONDS = 0.1


def ignore_error(task: "asyncio.Future[Any]") -> None:
    """Retrieve the error of a task that is over, so that asyncio does not log it; for `add_done_callback`."""
    if not task.cancelled():
        task.exception()


def countable(elapsed: float, planned: float) -> float:
    """Return the seconds of a slice that count: not what the loop was late by.

    Because of that lateness a call may have been sent late, or its result may lie unread.
    """
    return elapsed if elapsed - planned <= LOOP_LATENESS_SECONDS else planned


async def wait_in_slices(task: "asyncio.Future[Any]", seconds: float) -> None:
    """Return when `task` is over, or had `seconds` of a loop that is not late.

    A call takes several turns of the loop, and in a crowd of requests one of them may be longer than `seconds`.
    """
    left = seconds
    while left > 0 and not task.done():
        planned, begun = min(left, seconds / WAIT_SLICES), monotonic()
        await asyncio.wait({task}, timeout=planned)
        left -= countable(monotonic() - begun, planned)


async def result_or_abandon(
    task: asyncio.Task[T],
    seconds: float,
    *,
    late: Callable[[], Exception],
    cancel: bool,
    abandoned: Callable[[asyncio.Task[Any]], object] = ignore_error,
) -> T:
    """Return the result of `task`. Raises `late()` where it takes longer than `seconds`, or was cancelled.

    A task that is late, or whose waiter is cancelled, is left to end by itself, cancelled once where `cancel` says so:
    a driver whose server hangs may wait on all the same. `abandoned` is then called when the task is over.
    """
    try:
        await wait_in_slices(task, seconds)
        for _ in range(LAST_LOOKS):
            if not task.done():
                await asyncio.sleep(0)
    finally:
        if task.done():
            ignore_error(task)  # where the waiter is cancelled, the result is not asked for
        else:
            task.add_done_callback(abandoned)
            if cancel:
                task.cancel()
    if not task.done() or task.cancelled():
        raise late()
    return task.result()


async def result_or_cancel(call: Coroutine[Any, Any, T], seconds: float, *, late: Callable[[], Exception]) -> T:
    """Return the result of `call`. Raises `late()` where it takes longer than `seconds`; the call is then over."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise late()
        return task.result()
    finally:
        await cancel_until_done([task])


async def cancel_until_done(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they are over: some, when cancelled, wait on for a hung server until cancelled again."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)


class TaskSet:
    """Tasks that are kept until they are over, because the loop alone would not keep them, and are ended together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, call: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start a task."""
        task = asyncio.create_task(call, name=name)
        self.keep(task)
        return task

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a task that was started elsewhere."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Return when no task is under way, none that was started meanwhile either."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Cancel all tasks until they are over."""
        await cancel_until_done(self._tasks)
