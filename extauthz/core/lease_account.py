"""A worker's side of one lease: serves units of a spend, and says what is to be asked of the store for it.

Times are seconds of the worker's own monotonic clock, given by the caller. How long a lease serves is counted from
before its message left, so that neither a late answer nor a step of the store's clock makes it last longer.
"""

from collections.abc import MutableSequence
from math import ceil
from typing import Protocol

from extauthz.core.leases import NEAR, SERVED_FOR, UNITS_MIN, LeaseAsk, Leased
from extauthz.core.spend import FAILED, MICRO, Row, Spend

BUSY, BUSY_WITHIN = 8, 0.05  # answers of the store within so many seconds, from which on units are taken ahead
AHEAD = 0.05  # seconds of the seen demand that a lease is for, beside twice the time that an answer takes
TRIP_MAX = 0.1  # seconds of that time at most
UNITS_MAX, GROWTH = 10_000, 4  # units at most; times the units of before at most
RENEW_AFTER = 0.04  # seconds after which the store is told what was served, and tells how much is left
QUIET_LOOKS = 3  # looks in a row without a request, after which the rest is given back
REST = 0.25  # seconds without a lease after a limit was near
FAILURES_MAX = 20  # attempts to give back, after which what is left stays charged
MARGIN = 0.001  # seconds before the end of a day or month in which nothing is served from a lease

_NOTHING: Row = (0,) * 12


class Book(Protocol):
    """Where leases and what was served of them are written down."""

    @property
    def served(self) -> MutableSequence[int] | memoryview:
        """Units, by place."""
        ...

    def begin(self, spend: Spend) -> tuple[str, int]:
        """The id of a new lease, and its place."""
        ...

    def end(self, place: int) -> None:
        """The lease is over."""
        ...


class Account:
    """Counts how often a spend is asked for, and holds its lease while it is busy. One call at a time is `pending`."""

    __slots__ = (
        "_asked",
        "_base",
        "_book",
        "_cost",
        "_direct",
        "_failures",
        "_looked",
        "_measured_at",
        "_now",
        "_place",
        "_quiet",
        "_received_at",
        "_rest_until",
        "_sent_at",
        "_served_then",
        "_target",
        "_trip",
        "_unit",
        "_unit_of_key",
        "_written",
        "closing",
        "lease_id",
        "left",
        "low",
        "pending",
        "served",
        "spend",
        "until",
    )

    def __init__(self, now: float, book: Book) -> None:
        self.spend: Spend | None = None  # of the lease; it may hold this account, so that both would outlive their use
        self._book, self._written, self._place = book, book.served, 0
        self.lease_id = ""  # empty: there is no lease
        self.left = 0  # units that may be served
        self.served = 0  # units of this lease
        self.low = 0  # units left at which more are to be asked for
        self.until = 0.0  # when serving ends
        self.pending = self.closing = False
        self._asked = 0  # requests that the store answered since the last measurement
        self._served_then = 0  # units served by the last measurement
        self._measured_at = self._sent_at = self._received_at = self._rest_until = now
        self._looked, self._quiet = (0, 0), 0
        self._failures = 0  # calls of unknown outcome
        self._target = UNITS_MIN
        self._trip = 0.0  # seconds that the last answer took
        self._now, self._base = 0, _NOTHING  # the store's last answer
        self._direct = 0, _NOTHING  # its last answer to a request
        self._cost = self._unit = self._unit_of_key = 0  # of one unit: cost, and micro-tokens of the buckets there are

    def serve(self, now: float) -> tuple[int, Row] | None:
        """The store's time (microseconds) and the row of one unit, which is charged already; None: ask the store.

        The row says what was left by the last answer, less what was served here since.
        """
        if self.left <= 0 or now >= self.until:
            return None
        self.left = left = self.left - 1
        self.served = served = self.served + 1
        self._written[self._place] = served
        _, flags, day, month, level, carry, by_day, by_month, key_level, key_carry, key_day, key_month = self._base
        cost = left * self._cost
        return self._now + int((now - self._received_at) * MICRO), (
            0,
            flags,
            day,
            month,
            level + left * self._unit,
            carry,
            by_day - cost,
            by_month - cost,
            key_level + left * self._unit_of_key,
            key_carry,
            key_day - cost,
            key_month - cost,
        )

    def refused(self, now: float) -> bool:
        """The store refused a request of the owner. Whether it is to be given units back at once."""
        self._rest_until = now + REST
        return self.give_back()

    def answered(self, now: float, at: int, row: Row) -> bool:
        """The store allowed a request `at` its time (microseconds). Whether it is to be asked for units at once."""
        self._direct = at, row
        if self.left > 0:
            self._see(at, row, now)
        self._asked += 1
        if self._asked < BUSY or self.pending or self.closing:
            return False
        if now - self._measured_at > BUSY_WITHIN and not self.lease_id:
            self._asked, self._measured_at = 0, now
            return False
        return now >= self._rest_until

    def give_back(self) -> bool:
        """Serves nothing more. Whether the store is to be told at once."""
        self.left = 0
        self.closing = self.lease_id != ""
        return self.closing and not self.pending

    def look(self, now: float) -> bool:
        """Whether the store is to be asked; every few hundredths of a second while there is a lease."""
        activity = self.served, self._asked
        self._quiet = self._quiet + 1 if activity == self._looked else 0
        self._looked = activity
        if self.closing or self._quiet >= QUIET_LOOKS:
            return self.give_back()
        return not self.pending and not self._quiet and now - self._sent_at >= RENEW_AFTER

    @property
    def asks_soon(self) -> bool:
        """Whether half is used of the units after which more are to be asked for, and nothing else hinders it."""
        return self.left * 2 <= self.low * 3 and not self.pending and not self.closing

    def ask(self, now: float, spend: Spend) -> LeaseAsk:
        """What the store is to be asked of a spend, by a message that has not left yet."""
        self.pending, self._sent_at = True, now
        spend = self.spend or spend
        if self.closing:
            return LeaseAsk("close", self.lease_id, spend, self.served, 0)
        self._measure(now)
        if self.lease_id:
            return LeaseAsk("more", self.lease_id, spend, self.served, max(self._target - self.left, 0))
        self.spend, self._cost = spend, spend.cost
        self._unit = 0 if spend.limits.rate is None else spend.cost * MICRO
        self._unit_of_key = 0 if spend.key_limits.rate is None else spend.cost * MICRO
        self.lease_id, self._place = self._book.begin(spend)
        return LeaseAsk("take", self.lease_id, spend, 0, self._target)

    def told(self, ask: LeaseAsk, leased: Leased, now: float) -> bool:
        """Takes the store's answer. Whether the store is to be asked again at once."""
        self.pending = False
        refused, flags = leased.row[0], leased.row[1]
        if ask.operation == "close":
            if refused != FAILED:
                self._end()
            return False
        if refused < 0 or (leased.units == 0 and flags & NEAR):
            self._rest_until = now + REST
        if ask.operation == "take" and (refused < 0 or leased.units == 0):
            self._end()
            return False
        if refused < 0 or flags & NEAR:
            return self.give_back()
        if not self.closing:
            self._hold(ask, leased, now)
        return self.closing

    def failed(self) -> None:
        """The outcome of a call is unknown: the lease ends by a close that says what was served of it."""
        self.pending = False
        self._failures += 1
        self.give_back()
        if self._failures == FAILURES_MAX:
            self._end()

    def _hold(self, ask: LeaseAsk, leased: Leased, now: float) -> None:
        """What was granted is served from now on, until shortly before the day or month ends in which it is charged."""
        windows, row = ask.spend.windows, leased.row
        if windows is None:
            return
        ends_in = (min(windows.days.bounds[row[2]], windows.months.bounds[row[3]]) * MICRO - leased.now) / MICRO
        self.until = self._sent_at + min(SERVED_FOR, ends_in - MARGIN)
        self._trip = min(now - self._sent_at, TRIP_MAX)
        self.left += leased.units
        self.low = self.left // 2 if leased.units else -1
        self._now, self._base, self._received_at = leased.now, row, now
        self._see(*self._direct, now)  # what was asked after that may have been answered before

    def _see(self, at: int, row: Row, now: float) -> None:
        """What is left is counted from the store's last answer; all that was granted before is charged in it."""
        if at > self._now and row[2:4] == self._base[2:4]:
            self._now, self._base, self._received_at = at, row, now

    def _measure(self, now: float) -> None:
        """Sets how many units the demand is worth that was seen since the last time."""
        demand = self.served - self._served_then + self._asked
        wanted = ceil(demand / max(now - self._measured_at, 0.001) * (AHEAD + 2 * self._trip))
        self._target = max(UNITS_MIN, min(wanted, GROWTH * max(self._target, BUSY), UNITS_MAX))
        self._asked, self._served_then, self._measured_at = 0, self.served, now

    def _end(self) -> None:
        self._book.end(self._place)
        self.spend = None
        self.lease_id, self.left, self.served, self._served_then = "", 0, 0, 0
        self.closing, self._failures = False, 0
