"""A shared call: each seat is told once, whatever comes from the store and whenever."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from extauthz.core.errors import StoreUnavailable
from extauthz.core.limits import UNLIMITED
from extauthz.core.ports import REDIS, Mark
from extauthz.core.spend import Row, Spend
from extauthz.service.limits.leases import Leases
from extauthz.service.limits.spend_call import Awaited, SharedCall
from tests.unit.core.test_spend import question

ROW: Row = (0, *11 * (1,))
AWAY = StoreUnavailable(REDIS, "connection")


class Owner:
    """A CallOwner that records what it is told."""

    def __init__(self) -> None:
        self.leases: Leases | None = None
        self.told: list[str] = []

    def ended(self, call: SharedCall) -> None:  # noqa: ARG002 - there is one
        self.told.append("ended")

    def failed(self, call: SharedCall, error: StoreUnavailable) -> None:  # noqa: ARG002 - there is one
        self.told.append(f"failed {error.reason}")

    def refused(self, error: StoreUnavailable) -> None:
        self.told.append(f"refused {error.reason}")

    def unmark(self, marks: Sequence[Mark]) -> None:  # noqa: ARG002 - that they are named is enough
        self.told.append("unmarked")


def call(count: int) -> tuple[Owner, list[Awaited], SharedCall]:
    """A call of so many seats."""
    owner, seats = Owner(), [Awaited(question(UNLIMITED), None) for _ in range(count)]
    return owner, seats, SharedCall(owner, seats, [])


async def reason(seat: Awaited) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await seat.outcome
    return caught.value.reason


async def test_one_result_for_each_seat() -> None:
    """A seat whose part was refused fails alone, and one that was left is not told."""
    owner, (first, second, left), shared = call(3)
    left.outcome.cancel()
    shared.answered(7, [ROW, AWAY, ROW])
    assert await first.outcome == (7, ROW)
    assert await reason(second) == "connection"
    assert left.outcome.cancelled()
    assert owner.told == ["ended", "refused connection"]


async def test_an_answer_of_another_length_is_none() -> None:
    """Which result is whose is not known, so that all outcomes are unknown."""
    owner, seats, shared = call(2)
    shared.answered(7, [ROW])
    assert [await reason(seat) for seat in seats] == ["client", "client"]
    assert owner.told == ["failed client", "ended"]


async def test_what_comes_late_is_dropped() -> None:
    """An answer or a failure after the end changes nothing; a seat that was left is not told of the failure."""
    owner, (seat, left), shared = call(2)
    shared.leave = lambda: owner.told.append("left")
    left.outcome.cancel()
    shared.end_late()
    shared.answered(7, [ROW, ROW])
    shared.failed(AWAY)
    assert await reason(seat) == "timeout"
    assert owner.told == ["left", "failed timeout", "ended"]


def test_marks_that_were_not_set() -> None:
    """They are set again by the next call, and the failure is counted."""
    owner, _, shared = call(0)
    shared.unmarked(AWAY)
    assert owner.told == ["unmarked", "refused connection"]


async def test_a_call_without_a_connection_to_leave() -> None:
    """It ends as one that was sent, and spends that are worth a lease are noted where leases are taken."""
    owner, seats, shared = call(1)
    shared.end_late()
    assert await reason(seats[0]) == "timeout"
    assert owner.told == ["failed timeout", "ended"]
    owner, seats, shared = call(1)
    noted: list[tuple[Spend, int, Row]] = []
    owner.leases = cast("Leases", SimpleNamespace(note=lambda *each: noted.append(each)))
    shared.answered(7, [ROW])
    assert noted == [(seats[0].spend, 7, ROW)]
