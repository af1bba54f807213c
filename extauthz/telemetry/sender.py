"""Sends what is told of checks from a thread of its own, so that a receiver that hangs costs checks nothing."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import structlog

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)

QUEUE_MAX = 2048  # items that wait to be sent; what comes on top is dropped
ITEMS_PER_REQUEST_MAX = 32  # in one request: making it holds the interpreter, some 3 ms for so many checks
SEND_INTERVAL_SECONDS = 1.0  # or as soon as there is enough for a request
STOP_TIMEOUT_SECONDS = 0.6  # that the end of the process waits for what is left


class Receiver(Protocol[Item_contra]):
    """Where items are sent. Its methods are called by the thread, but for `abort`."""

    def send(self, items: Sequence[Item_contra]) -> str:
        """Sends items, however long that takes; why that failed, or an empty text."""
        ...

    def abort(self) -> None:
        """Ends the waits of `send` between two attempts, and all that comes after."""
        ...


class Sender(Generic[Item]):
    """A bounded queue and the daemon thread that sends what is in it. What cannot be sent is counted."""

    def __init__(self, receiver: Receiver[Item], what: str, *, queue_max: int = QUEUE_MAX) -> None:
        """`what` is sent, as log events call it. At most `queue_max` items wait."""
        self.dropped = 0
        self._receiver = receiver
        self._what = what
        self._queue_max = queue_max
        self._items: deque[tuple[Item, int]] = deque()
        self._failing = False
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"{what} sender", daemon=True)
        self._thread.start()

    def put(self, item: Item, count: int) -> None:
        """Takes an item to be sent; never waits. `count` is how much is lost where it cannot be."""
        items = self._items
        if len(items) >= self._queue_max:
            self.dropped += count
            return
        items.append((item, count))
        if len(items) >= ITEMS_PER_REQUEST_MAX and not self._wake.is_set():
            self._wake.set()

    async def close(self) -> None:
        """Sends what is left where the receiver takes it, and ends after a moment in any case."""
        self._ending = True
        if self._failing:
            self._receiver.abort()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_SECONDS)
        self._receiver.abort()
        left = sum(count for _, count in list(self._items))
        if left:
            self.dropped += left
            structlog.get_logger().warning(f"{self._what}_lost_at_stop", count=left)

    def _run(self) -> None:
        while True:
            ending = self._ending
            batch = [self._items.popleft() for _ in range(min(ITEMS_PER_REQUEST_MAX, len(self._items)))]
            if batch:
                self._send(batch)
            elif ending:
                return
            if len(self._items) < ITEMS_PER_REQUEST_MAX and not self._ending:
                self._wake.wait(SEND_INTERVAL_SECONDS)
                self._wake.clear()

    def _send(self, batch: Sequence[tuple[Item, int]]) -> None:
        why = self._receiver.send([item for item, _ in batch])
        if why:
            lost = sum([count for _, count in batch])
            self.dropped += lost  # in one step: `put` may count in another thread while a sum is made
        if bool(why) != self._failing:
            self._failing = bool(why)
            log = structlog.get_logger()
            if why:
                log.warning(f"{self._what}_not_sent", error=why)
            else:
                log.info(f"{self._what}_sent_again")
