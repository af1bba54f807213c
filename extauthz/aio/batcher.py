"""A batcher: what comes while calls are under way goes together in the next call."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from extauthz.aio.tasks import TaskSet

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Collects items, and hands them in batches to `call`, in the order in which they came.

    `call` delivers what came of its batch, a failure as well: an item that waits may hold a future, for example. Items
    that are added in one turn of the event loop go together. `batch_max` is read for each batch. At most
    `max_concurrency` calls are under way, where it is not None. The batcher does not bound the items that wait: its
    owner does, by `len`.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Coroutine[Any, Any, None]],
        *,
        batch_max: Callable[[], int],
        max_concurrency: int | None = None,
    ) -> None:
        self._call = call
        self._batch_max = batch_max
        self._max_concurrency = max_concurrency
        self._waiting: deque[Item] = deque()
        self._calls = TaskSet()
        self._due = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Item) -> None:
        """Queue an item for the next call."""
        self._waiting.append(item)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._send)

    async def idle(self) -> None:
        """Return when nothing waits and no call is under way."""
        while self._waiting or self._calls:
            await self._calls.wait()
            await asyncio.sleep(0)  # what waits is sent in this turn of the loop

    async def close(self) -> list[Item]:
        """Cancel the calls under way; return the items that waited for a call."""
        dropped = list(self._waiting)
        self._waiting.clear()
        await self._calls.close()
        return dropped

    def _send(self, _: object = None) -> None:
        self._due = False
        while self._waiting and (self._max_concurrency is None or len(self._calls) < self._max_concurrency):
            size = min(self._batch_max(), len(self._waiting))
            call = self._calls.start(self._call([self._waiting.popleft() for _ in range(size)]))
            call.add_done_callback(self._send)
