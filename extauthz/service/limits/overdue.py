"""Calls without a task that take too long: one timer for all of them."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar

from extauthz.aio.tasks import LAST_LOOKS, LOOP_LATENESS_SECONDS, WAIT_SLICES


class Endable(Protocol):
    """What may be over before it is overdue."""

    @property
    def over(self) -> bool:
        """Whether it is."""
        ...


Call = TypeVar("Call", bound=Endable)


class Overdue(Generic[Call]):
    """Tells of calls that were not over after `timeout` seconds of a loop that is not late.

    What a slice of the time took beyond its length does not count, as in `guard.wait_in_slices`: a call may have been
    sent late then, or its answer lie unread.
    """

    def __init__(self, timeout: Callable[[], float], late: Callable[[Call], None]) -> None:
        """`late` is called once with each, after a last look at what has arrived."""
        self._timeout = timeout
        self._late = late
        self._calls: deque[tuple[float, Call]] = deque()  # by when they are due
        self._counted = 0.0  # seconds that count
        self._ticked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: Call) -> None:
        """Its time begins now."""
        now = monotonic()
        if self._timer is None:
            self._ticked_at = now
            self._start()
        self._calls.append((self._counted + (now - self._ticked_at) + self._timeout(), call))

    def close(self) -> None:
        """Tells of nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._calls.clear()

    def _start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._timeout() / WAIT_SLICES, self._tick)

    def _tick(self) -> None:
        now, slice_ = monotonic(), self._timeout() / WAIT_SLICES
        took = now - self._ticked_at
        self._ticked_at = now
        self._counted += took if took - slice_ <= LOOP_LATENESS_SECONDS else slice_
        calls = self._calls
        while calls and (calls[0][1].over or calls[0][0] <= self._counted):
            _, call = calls.popleft()
            if not call.over:
                self._look(call, LAST_LOOKS)
        self._timer = None
        if calls:
            self._start()

    def _look(self, call: Call, looks: int) -> None:
        """An answer that has already arrived is read in the next passes of the loop."""
        if call.over:
            return
        if looks:
            asyncio.get_running_loop().call_soon(self._look, call, looks - 1)
        else:
            self._late(call)
