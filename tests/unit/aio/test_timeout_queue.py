"""Time limits of calls without a task."""

import asyncio
import time
from dataclasses import dataclass, field

from extauthz.aio.timeout_queue import TimeoutQueue

TIMEOUT = 0.02  # seconds


@dataclass(eq=False)
class Call:
    over: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        assert not self.ended.is_set()
        self.over = True
        self.ended.set()


def queue() -> TimeoutQueue[Call]:
    return TimeoutQueue(lambda: TIMEOUT, Call.end)


async def test_late_calls_are_ended_once() -> None:
    """Each in its time, by one timer; those that are over are left alone."""
    calls, timeouts = [Call() for _ in range(4)], queue()
    for call in calls[:3]:
        timeouts.watch(call)
    calls[1].over = True
    async with asyncio.timeout(5):
        await calls[0].ended.wait()
        await calls[2].ended.wait()
        timeouts.watch(calls[3])  # the timer has stopped meanwhile, or not
        await calls[3].ended.wait()
    assert not calls[1].ended.is_set()
    timeouts.close()


async def test_lateness_of_the_loop_does_not_count() -> None:
    """A call whose result arrived while the loop was blocked beyond the limit is not ended."""
    call, last, timeouts, loop = Call(), Call(), queue(), asyncio.get_running_loop()
    timeouts.watch(call)

    def block() -> None:
        time.sleep(TIMEOUT * 3)
        loop.call_soon(setattr, call, "over", True)  # the result is read in the next pass of the loop

    loop.call_soon(block)
    timeouts.watch(last)
    async with asyncio.timeout(5):
        await last.ended.wait()
    assert not call.ended.is_set()
    timeouts.close()


async def test_nothing_is_ended_after_close() -> None:
    """A closed queue ends no call."""
    call, other, timeouts, others = Call(), Call(), queue(), queue()
    timeouts.watch(call)
    timeouts.close()
    others.watch(other)
    async with asyncio.timeout(5):
        await other.ended.wait()
    assert not call.ended.is_set()
