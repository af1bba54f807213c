"""A question to the layers below, for whose answer several requests may wait; and whose lateness it is without one."""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Generic, TypeVar

from extauthz.aio.tasks import LOOP_LATENESS_SECONDS, wait_in_slices
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL
from extauthz.core.trace import Trace

Asked = TypeVar("Asked")
Told = TypeVar("Told")

TURN_TIMEOUT_SECONDS = 5.0  # beyond its deadline that a request waits where our own queue is what is late


class Question(Generic[Asked, Told]):
    """What is asked for, and the answer once it is there. It is wanted while a request waits for it."""

    __slots__ = ("_answer", "_asked_at", "_sent_at", "_waiting", "asked", "attempts", "traces")

    def __init__(self, asked: Asked, *, over: Callable[[], None] | None = None) -> None:
        """`over` is called once the answer is there, or is not wanted any more."""
        self.asked = asked
        self.attempts = 0
        self.traces: list[Trace] = []  # of the requests that wait, as far as they are recorded
        self._waiting = 0
        self._asked_at = monotonic()
        self._sent_at = inf
        self._answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._answer.add_done_callback(_retrieved)
        if over is not None:
            self._answer.add_done_callback(lambda _: over())

    @property
    def wanted(self) -> bool:
        """Whether a request waits for the answer."""
        return self._waiting > 0

    def sent(self) -> None:
        """Its turn has come."""
        self._sent_at = monotonic()

    def tell(self, answer: Told) -> None:
        """The answer, for all who wait."""
        if not self._answer.done():
            self._answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        """The failure, for all who wait."""
        if not self._answer.done():
            self._answer.set_exception(error)

    def leave(self) -> None:
        """There will be no answer."""
        self._answer.cancel()

    async def answer(self, deadline: float, *, up: Callable[[], bool]) -> Told:
        """The answer, not later than `deadline` (monotonic seconds) as far as that is for the store to keep.

        Where our own loop or queue is what is late, and the store is `up`, the request waits some seconds more: a crowd
        of requests must not look like an outage. Raises StoreUnavailable, `busy` where there was no turn by then.
        """
        self._waiting += 1
        reason = "deadline"
        try:
            await asyncio.wait({self._answer}, timeout=max(0.0, deadline - monotonic()))
            if not self._answer.done() and up() and self._is_ours(deadline):
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

    def _is_ours(self, deadline: float) -> bool:
        """Whether the deadline has passed because of us: we woke up late, or sent the question late.

        What was sent is bounded by the time limit of a query.
        """
        now = monotonic()
        return max(now - deadline, min(self._sent_at, now) - self._asked_at) > LOOP_LATENESS_SECONDS


def _retrieved(answer: "asyncio.Future[Told]") -> None:
    """All who waited may have left; a failure is then logged by none."""
    if not answer.cancelled():
        answer.exception()
