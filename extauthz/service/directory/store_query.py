"""A query to a backing store, for whose answer several requests may wait."""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Generic, TypeVar

from extauthz.aio.tasks import LOOP_LATENESS_SECONDS, ignore_error, wait_in_slices
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL
from extauthz.core.trace import Trace

Asked = TypeVar("Asked")
Told = TypeVar("Told")

TURN_TIMEOUT_SECONDS = 5.0  # that a request waits beyond its deadline where the queue of this process is what is late


class StoreQuery(Generic[Asked, Told]):
    """What is asked for, and the answer once it is there. It is wanted while a request waits for it."""

    __slots__ = ("_answer", "_asked_at", "_sent_at", "_waiting", "asked", "attempts", "traces")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.attempts = 0
        self.traces: list[Trace] = []  # of the requests that wait, as far as they are recorded
        self._waiting = 0
        self._asked_at = monotonic()
        self._sent_at = inf
        self._answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._answer.add_done_callback(ignore_error)  # every request that waited may have left

    @property
    def wanted(self) -> bool:
        """Whether a request waits for the answer."""
        return self._waiting > 0

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call `callback` once the answer is there, or is not wanted any more."""
        self._answer.add_done_callback(callback)

    def sent(self) -> None:
        """Note that the query is sent now."""
        self._sent_at = monotonic()

    def tell(self, answer: Told) -> None:
        """Give the answer to every request that waits."""
        if not self._answer.done():
            self._answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Give a failure to every request that waits."""
        if not self._answer.done():
            self._answer.set_exception(error)

    def leave(self) -> None:
        """Note that there will not be an answer."""
        self._answer.cancel()

    async def answer(self, deadline: float, *, up: Callable[[], bool]) -> Told:
        """Return the answer, not later than `deadline` (monotonic seconds) unless this process is late.

        Where this process itself is late and the store is `up`, the request waits some seconds more, so that a crowd of
        requests does not look like an outage. Raises StoreUnavailable, `busy` where the query was not sent by then.
        """
        self._waiting += 1
        reason = "deadline"
        try:
            await asyncio.wait({self._answer}, timeout=max(0.0, deadline - monotonic()))
            if not self._answer.done() and up() and self._late_here(deadline):
                await wait_in_slices(self._answer, TURN_TIMEOUT_SECONDS)
                reason = "busy" if up() and self._sent_at == inf else "deadline"
        finally:
            self._waiting -= 1
        if not self._answer.done() or self._answer.cancelled():
            raise StoreUnavailable(POSTGRESQL, reason)
        error = self._answer.exception()
        if isinstance(error, StoreUnavailable):
            raise StoreUnavailable(error.store, error.reason)  # one that many raise would collect all their stacks
        return self._answer.result()

    def _late_here(self, deadline: float) -> bool:
        """Whether the deadline has passed because the loop woke up late, or the query was sent late.

        What was sent is bounded by the time limit of a query.
        """
        now = monotonic()
        return max(now - deadline, min(self._sent_at, now) - self._asked_at) > LOOP_LATENESS_SECONDS
