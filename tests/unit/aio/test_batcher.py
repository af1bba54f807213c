"""The batcher: what goes together, in which order, how many calls are under way, and how it is closed."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from extauthz.aio.batcher import Batcher


class Calls:
    """Records batches; a call ends when it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Semaphore(0)
        self.go = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, batch: Sequence[int]) -> None:
        self.batches.append(list(batch))
        self.begun.release()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
async def batcher(calls: Calls) -> AsyncIterator[Batcher[int]]:
    """At most two calls of at most three items."""
    batcher = Batcher(calls, batch_max=lambda: 3, max_concurrency=2)
    yield batcher
    await batcher.close()


async def test_items_of_one_turn_go_together(batcher: Batcher[int], calls: Calls) -> None:
    """One call carries what is added before the loop turns."""
    calls.go.set()
    batcher.add(1)
    batcher.add(2)
    assert calls.batches == []
    await batcher.idle()
    assert calls.batches == [[1, 2]]


async def test_items_wait_for_a_call_to_end(batcher: Batcher[int], calls: Calls) -> None:
    """Beyond the calls allowed, items wait, and go together in their order."""
    for item in range(8):
        batcher.add(item)
    await calls.begun.acquire()
    await calls.begun.acquire()
    batcher.add(8)
    await asyncio.sleep(0)
    assert calls.batches == [[0, 1, 2], [3, 4, 5]]
    assert len(batcher) == 3
    calls.go.set()
    await batcher.idle()
    assert calls.batches[2:] == [[6, 7, 8]]
    assert len(batcher) == 0


async def test_calls_without_a_bound(calls: Calls) -> None:
    """Where concurrency is not bounded, nothing waits."""
    batcher = Batcher(calls, batch_max=lambda: 1)
    for item in range(10):
        batcher.add(item)
    for _ in range(10):
        await calls.begun.acquire()
    assert len(batcher) == 0
    await batcher.close()


async def test_size_is_read_for_each_batch(calls: Calls) -> None:
    """A caller may lower the size after a failure."""
    sizes = [4, 1, 2]
    batcher = Batcher(calls, batch_max=lambda: sizes.pop(0), max_concurrency=1)
    calls.go.set()
    for item in range(7):
        batcher.add(item)
    await batcher.idle()
    assert calls.batches == [[0, 1, 2, 3], [4], [5, 6]]


async def test_close_cancels_calls_and_returns_what_waits(batcher: Batcher[int], calls: Calls) -> None:
    """The caller can tell the items that were not sent."""
    for item in range(8):
        batcher.add(item)
    await calls.begun.acquire()
    await calls.begun.acquire()
    assert await batcher.close() == [6, 7]
    assert calls.cancelled == 2
    assert len(calls.batches) == 2
