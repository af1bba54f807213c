"""The lease ledger: what a worker has served, in memory that outlives it, so that its successor returns the rest."""

import struct
from collections.abc import Iterator
from time import time
from typing import Any, NamedTuple
from uuid import uuid4

from extauthz.core.calendar import UTC_CALENDAR
from extauthz.core.limit_kinds import QUOTAS
from extauthz.core.limits import Limits, Rate
from extauthz.core.spend import Owner, Spend

LEDGER_PLACES = 1000  # leases at a time
_COUNT = 8  # bytes of what is served of one
# Id of the lease (empty: a free place); cost; tokens and seconds of the rate (0: none), burst and quotas (-1: none) of
# the owner and of the key; lengths and bytes of their ids.
_NUMBERS = 3 + len(QUOTAS)
_ENTRY = struct.Struct(f"<16s{1 + 2 * _NUMBERS}qHH255s255s")
_ID_MAX = 255
SIZE = LEDGER_PLACES * (_COUNT + _ENTRY.size)


class Left(NamedTuple):
    """A lease that was open when its worker ended."""

    place: int
    lease_id: str
    spend: Spend
    served: int


class Ledger:
    """The leases of one worker. `served` has a count for each place, which is raised before a check is answered."""

    def __init__(self, memory: memoryview) -> None:
        """`memory` of SIZE bytes: zeros, or the ledger of a worker that has ended."""
        self.served = memory[: LEDGER_PLACES * _COUNT].cast("Q")
        self._entries = memory[LEDGER_PLACES * _COUNT :]
        self._free = [place for place in reversed(range(LEDGER_PLACES)) if not self._entry(place)[0].strip(b"\0")]

    def has_room(self, spend: Spend) -> bool:
        """Whether a lease of a spend can be written down."""
        return bool(self._free) and max(len(spend.owner.id), len(spend.key_id)) <= _ID_MAX and spend.owner.id.isascii()

    def begin(self, spend: Spend) -> tuple[str, int]:
        """Write a new lease down; return its id and its place."""
        place, lease_id = self._free.pop(), uuid4().hex[:16]
        owner, key = spend.owner.id.encode("ascii"), spend.key_id.encode("ascii", "replace")
        self.served[place] = 0
        numbers = spend.cost, *_numbers(spend.limits), *_numbers(spend.key_limits)
        _ENTRY.pack_into(
            self._entries, place * _ENTRY.size, lease_id.encode(), *numbers, len(owner), len(key), owner, key
        )
        return lease_id, place

    def end(self, place: int) -> None:
        """Note that a lease is closed."""
        self._entries[place * _ENTRY.size : place * _ENTRY.size + 16] = bytes(16)
        self._free.append(place)

    def left(self) -> Iterator[Left]:
        """Yield the leases that are not closed."""
        windows = UTC_CALENDAR.round(time())  # which do not matter: a lease has its own day
        for place in range(LEDGER_PLACES):
            lease_id, cost, *numbers, owner_size, key_size, owner, key = self._entry(place)
            if not lease_id.strip(b"\0"):
                continue
            spend = Spend(
                Owner("tenant", owner[:owner_size].decode("ascii")),
                cost,
                _limits(*numbers[:_NUMBERS]),
                UTC_CALENDAR,
                windows,
                key[:key_size].decode("ascii"),
                _limits(*numbers[_NUMBERS:]),
            )
            yield Left(place, lease_id.decode("ascii"), spend, self.served[place])

    def _entry(self, place: int) -> tuple[Any, ...]:
        return _ENTRY.unpack_from(self._entries, place * _ENTRY.size)


def in_process() -> Ledger:
    """Return a ledger that ends with its process."""
    return Ledger(memoryview(bytearray(SIZE)))


def _numbers(limits: Limits) -> tuple[int, ...]:
    rate = (0, 1) if limits.rate is None else (limits.rate.tokens, limits.rate.seconds)
    return (*rate, *(-1 if number is None else number for number in (limits.burst, *limits.quotas)))


def _limits(tokens: int, seconds: int, *others: int) -> Limits:
    return Limits(Rate(tokens, seconds) if tokens else None, *(None if number < 0 else number for number in others))
