"""Time limits of calls that have no task: one timer for all of them."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar

from extauthz.aio.tasks import LAST_LOOKS, WAIT_SLICES, countable


class Endable(Protocol):
    """A call that may be over before its time limit."""

    @property
    def over(self) -> bool:
        """Whether it is over."""
        ...


Call = TypeVar("Call", bound=Endable)


class TimeoutQueue(Generic[Call]):
    """Ends calls that are not over after `timeout` seconds of a loop that is not late.

    Time is counted in slices, as `tasks.wait_in_slices` does.
    """

    def __init__(self, timeout: Callable[[], float], end: Callable[[Call], None]) -> None:
        """`end` is called once with each late call, after a last look at results that have arrived."""
        self._timeout = timeout
        self._end = end
        self._calls: deque[tuple[float, Call]] = deque()  # by when they are due
        self._counted = 0.0  # seconds that count
        self._ticked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: Call) -> None:
        """Bound a call; its time begins now."""
        now = monotonic()
        if self._timer is None:
            self._ticked_at = now
            self._start()
        self._calls.append((self._counted + (now - self._ticked_at) + self._timeout(), call))

    def close(self) -> None:
        """Bound no call any longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._calls.clear()

    def _start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._timeout() / WAIT_SLICES, self._tick)

    def _tick(self) -> None:
        now = monotonic()
        self._counted += countable(now - self._ticked_at, self._timeout() / WAIT_SLICES)
        self._ticked_at = now
        calls = self._calls
        while calls and (calls[0][1].over or calls[0][0] <= self._counted):
            _, call = calls.popleft()
            if not call.over:
                self._look(call, LAST_LOOKS)
        self._timer = None
        if calls:
            self._start()

    def _look(self, call: Call, looks: int) -> None:
        """Give a result that has already arrived a few passes of the loop to be read."""
        if call.over:
            return
        if looks:
            asyncio.get_running_loop().call_soon(self._look, call, looks - 1)
        else:
            self._end(call)
