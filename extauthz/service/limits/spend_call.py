"""One shared call of Redis, without a task, and the seats that wait for its outcome."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import REDIS, Mark
from extauthz.core.spend import Row, Spend
from extauthz.core.trace import StoreCall, Trace
from extauthz.service.limits.leases import Leases
from extauthz.service.limits.restore import another
from extauthz.service.store_calls import begin_call, end_call


class Seat(Protocol):
    """What waits for the outcome of one spend: `settle` or `fail` is called once, and neither may raise."""

    @property
    def spend(self) -> Spend:
        """What is asked for."""
        ...

    @property
    def trace(self) -> Trace | None:
        """The trace of the check; None where it is not recorded."""
        ...

    @property
    def left(self) -> bool:
        """Whether the outcome is not wanted any more; what was not sent by then is not charged."""
        ...

    def settle(self, now: int, row: Row) -> None:
        """Take the outcome, at `now` (microseconds of the store's clock)."""
        ...

    def fail(self, error: Exception) -> None:
        """Take a failure: the outcome is unknown, or nothing was charged."""
        ...


class CallOwner(Protocol):
    """The owner of calls under way."""

    leases: Leases | None

    def ended(self, call: "SharedCall") -> None:
        """Note that a call is over, and its outcomes are about to be told."""
        ...

    def failed(self, call: "SharedCall", error: StoreUnavailable) -> None:
        """Note that a call failed as a whole."""
        ...

    def refused(self, error: StoreUnavailable) -> None:
        """Note that Redis took a call and refused a part of it."""
        ...

    def unmark(self, marks: Sequence[Mark]) -> None:
        """Note that marks may not be set."""
        ...


class SharedCall:
    """One call under way, and the seats that wait for it."""

    def __init__(self, limiter: CallOwner, seats: Sequence[Seat], marks: Sequence[Mark]) -> None:
        self.marks = marks
        self.over = False
        self.leave: Callable[[], None] | None = None  # see LimitStore.begin
        self._limiter = limiter
        self._seats = seats
        self._recorded: StoreCall | None = None

    def record(self) -> None:
        """Record the call, which was sent, in the traces of its seats."""
        self._recorded = _begin(self._seats)

    def answered(self, now: int, results: Sequence[Row | StoreUnavailable]) -> None:
        """Take the answer: one result for each seat."""
        if self.over:  # it was late, and its seats have been told
            return
        if len(results) != len(self._seats):
            self.failed(StoreUnavailable(REDIS, "client"))
            return
        self._close(None)
        leases = self._limiter.leases
        for seat, result in zip(self._seats, results, strict=True):
            if isinstance(result, StoreUnavailable):
                self._limiter.refused(result)
                seat.fail(result)
                continue
            if leases is not None:
                leases.note(seat.spend, now, result)
            seat.settle(now, result)

    def failed(self, error: StoreUnavailable) -> None:
        """Take a failure of the whole call: all outcomes are unknown."""
        if not self.over:
            self._limiter.failed(self, error)
            self.end(error)

    def unmarked(self, error: StoreUnavailable) -> None:
        """Note that the marks were not set."""
        self._limiter.unmark(self.marks)
        self._limiter.refused(error)

    def end_late(self) -> None:
        """End the call, which Redis did not answer in time; a later answer is dropped."""
        if self.leave is not None:
            self.leave()
        self.failed(StoreUnavailable(REDIS, "timeout"))

    def end(self, error: Exception) -> None:
        """Tell all seats that their outcome is unknown."""
        self._close(error)
        fail(self._seats, error)

    def _close(self, error: Exception | None) -> None:
        self.over = True
        end_call(self._recorded, error)
        self._limiter.ended(self)


class Awaited:
    """A seat whose outcome is awaited."""

    def __init__(self, spend: Spend, trace: Trace | None) -> None:
        self.spend = spend
        self.trace = trace
        self.outcome: asyncio.Future[tuple[int, Row]] = asyncio.get_running_loop().create_future()

    @property
    def left(self) -> bool:
        """Whether the outcome is not awaited any more."""
        return self.outcome.done()

    def settle(self, now: int, row: Row) -> None:
        """Hand the outcome on."""
        if not self.outcome.done():
            self.outcome.set_result((now, row))

    def fail(self, error: Exception) -> None:
        """Hand the failure on."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


def fail(seats: Sequence[Seat], error: Exception) -> None:
    """Tell seats of a failure, each by an exception of its own."""
    for seat in seats:
        seat.fail(another(error))


def refuse(seats: Sequence[Seat], error: Exception) -> None:
    """Do the same where no call could be sent, and record a failed call in their traces."""
    end_call(_begin(seats), error)
    fail(seats, error)


def _begin(seats: Sequence[Seat]) -> StoreCall | None:
    return begin_call(REDIS, "spend", [seat.trace for seat in seats], len(seats))
