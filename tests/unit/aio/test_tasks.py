"""Bounded waits, abandoned tasks, and tasks that end only after several cancellations."""

import asyncio
import gc
from typing import Any

import pytest

from extauthz.aio.tasks import TaskSet, cancel_until_done, result_or_abandon, result_or_cancel


class Late(Exception):
    """What a bounded wait raises here."""


class Stubborn:
    """A call that ends when it was cancelled `times` times, as a driver whose server hangs."""

    def __init__(self, times: int) -> None:
        self.begun, self.over = asyncio.Event(), asyncio.Event()
        self.cancellations = 0
        self._times = times

    async def call(self) -> None:
        self.begun.set()
        while self.cancellations < self._times:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancellations += 1
        self.over.set()


async def seven() -> int:
    return 7


async def fails() -> None:
    raise LookupError


async def test_cancel_until_done_cancels_again() -> None:
    """A task that survives a cancellation is cancelled until it is over."""
    stubborn = Stubborn(3)
    task = asyncio.create_task(stubborn.call())
    await stubborn.begun.wait()
    await cancel_until_done([task])
    assert task.done()
    assert stubborn.cancellations == 3


async def test_cancel_until_done_of_nothing() -> None:
    """No task, or one that is over, is nothing to wait for."""
    task = asyncio.create_task(seven())
    assert await task == 7
    await cancel_until_done([])
    await cancel_until_done([task])


async def test_bounded_waits_return_and_raise_what_the_call_does() -> None:
    """A call in time is not changed by a bounded wait."""
    assert await result_or_cancel(seven(), 5, late=Late) == 7
    assert await result_or_abandon(asyncio.create_task(seven()), 5, late=Late, cancel=True) == 7
    with pytest.raises(LookupError):
        await result_or_cancel(fails(), 5, late=Late)
    with pytest.raises(LookupError):
        await result_or_abandon(asyncio.create_task(fails()), 5, late=Late, cancel=True)


async def test_late_call_is_over_when_the_wait_ends() -> None:
    """`result_or_cancel` leaves nothing behind, however often it has to cancel."""
    stubborn = Stubborn(2)
    with pytest.raises(Late):
        await result_or_cancel(stubborn.call(), 0.001, late=Late)
    assert stubborn.over.is_set()


async def test_cancelled_waiter_ends_its_call() -> None:
    """The call of `result_or_cancel` does not outlive its waiter."""
    stubborn = Stubborn(2)
    waiter = asyncio.create_task(result_or_cancel(stubborn.call(), 5, late=Late))
    await stubborn.begun.wait()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert stubborn.over.is_set()


@pytest.mark.parametrize("cancel", [True, False])
async def test_late_task_is_abandoned(cancel: bool) -> None:
    """A task that is late ends by itself; it is cancelled once where that is asked for."""
    stubborn, over = Stubborn(2), asyncio.Event()
    task = asyncio.create_task(stubborn.call())
    with pytest.raises(Late):
        await result_or_abandon(task, 0.001, late=Late, cancel=cancel, abandoned=lambda _: over.set())
    await asyncio.sleep(0)
    assert stubborn.cancellations == cancel
    assert not task.done()
    await cancel_until_done([task])
    await over.wait()


async def test_task_of_a_cancelled_waiter_is_abandoned() -> None:
    """A task outlives its waiter."""
    stubborn = Stubborn(1)
    task = asyncio.create_task(stubborn.call())
    waiter = asyncio.create_task(result_or_abandon(task, 5, late=Late, cancel=False))
    await stubborn.begun.wait()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not task.done()
    await cancel_until_done([task])


async def test_task_that_was_cancelled_is_late() -> None:
    """The waiter of a task that another one has cancelled is not cancelled itself."""
    task = asyncio.create_task(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(Late):
        await result_or_abandon(task, 5, late=Late, cancel=True)


async def test_error_of_an_abandoned_task_is_not_logged() -> None:
    """Nothing waits for it any more."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    release = asyncio.Event()

    async def fails_late() -> None:
        await release.wait()
        raise OSError("torn")

    task = asyncio.create_task(fails_late())
    with pytest.raises(Late):
        await result_or_abandon(task, 0.001, late=Late, cancel=False)
    release.set()
    await asyncio.wait({task})
    del task
    gc.collect()
    assert complaints == []


async def test_task_set_keeps_tasks_until_they_are_over() -> None:
    """Its size is the number of tasks under way; `wait` includes tasks that were started meanwhile."""
    tasks, order = TaskSet(), list[str]()

    async def second() -> None:
        order.append("second")

    async def first() -> None:
        tasks.start(second())
        order.append("first")

    tasks.start(first(), name="first")
    assert len(tasks) == 1
    await tasks.wait()
    assert order == ["first", "second"]
    assert not tasks


async def test_task_set_ends_its_tasks() -> None:
    """`close` returns when all are over."""
    tasks, stubborn = TaskSet(), Stubborn(2)
    tasks.start(stubborn.call())
    await stubborn.begun.wait()
    await tasks.close()
    assert stubborn.over.is_set()
    assert not tasks
