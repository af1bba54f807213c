"""Leases: units of one spend that a worker takes ahead of requests. What is asked, kept and answered.

The arithmetic is in core/lease_steps.py, and in Lua; docs/adr/0015-leases.md says why it never admits too much.
"""

from typing import Literal, NamedTuple

from extauthz.core.spend import MICRO, Row, Spend

HOLD = 2 * MICRO  # microseconds of the store's clock after which a lease that its worker did not renew is late
SERVED_FOR = 1.0  # seconds after its last renewal was sent in which a worker serves from a lease; well below HOLD
SHARE = 100  # a limit's 100th part is leased at most, in all workers together
RESERVE = 10  # while less than a limit's tenth part is left, nothing is leased
UNITS_MIN = 2  # one unit saves no call
LEASES_MAX = 64  # of one owner at once
LAPSED_MAX = 32  # whose workers may still say what they served
NEAR = 4  # flag of a row: no unit may be taken, because one of the limits has not enough left
NO_LEASE = -4  # in place of `refused`: there is no such lease, or it is of another day, month or cost

FRESH, LATE, ENDED = 0, 1, 2


class Lease(NamedTuple):
    """What a store keeps of one lease: `granted` units of `cost` by a key, `served` of them as last reported.

    All `granted` units are charged in the counters `day` and `month`. What is not served is held back from the capacity
    of the buckets until the lease ends, so that a full bucket and the leases together never exceed it; `own`: the key
    has a bucket of its own. `until` (microseconds) and `stage`: see `lapsing`.
    """

    key_id: str
    own: bool
    cost: int
    day: str
    month: str
    granted: int
    served: int
    until: int
    stage: int = FRESH

    @property
    def held(self) -> int:
        """Tokens that are granted and, as far as reported, not served."""
        return (self.granted - self.served) * self.cost


class LeaseAsk(NamedTuple):
    """What a worker asks of a store for one lease, of which it has `served` so many units since it began.

    `take` begins a lease with `wanted` units, `more` adds so many to one that is there, `close` ends it and gives back
    what was not served. `spend` is one unit.
    """

    operation: Literal["take", "more", "close"]
    lease_id: str
    spend: Spend
    served: int
    wanted: int


class Leased(NamedTuple):
    """The answer: units added (or given back, by a `close`), and the row of the spend afterwards at `now`.

    `row[0]` below zero: nothing happened, for one of the reasons of a spend, or NO_LEASE.
    """

    units: int
    now: int
    row: Row


def lapsing(lease: Lease, now: int) -> Lease:
    """The lease as a store keeps it once it has seen it at `now`.

    A lease ends after it was late twice: one step of the store's clock makes it late, and in the HOLD that follows its
    worker stops to serve by its own clock. After a step back its time is counted from then.
    """
    if lease.stage == ENDED:
        return lease
    if now >= lease.until:
        return lease._replace(stage=lease.stage + 1, until=now + HOLD)
    return lease if lease.until <= now + HOLD else lease._replace(until=now + HOLD)
