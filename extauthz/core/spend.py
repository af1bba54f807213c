"""What a request asks of limits, and what a store says came of it.

The arithmetic is in core/token_bucket.py, and in Lua.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from extauthz.core.calendar import Calendar, CalendarWindows
from extauthz.core.hosts import normal_host
from extauthz.core.limit_kinds import BUCKET, CREDITS, HOURS, KEY, NAMES, OWNER, QUOTAS
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match
from extauthz.core.subject import Subject
from extauthz.core.tenants import Tenant
from extauthz.core.usage import Span

MICRO = 1_000_000

Operation = Literal["spend", "peek"]
# The outcome of one spend in numbers, as the script and its callers agree on them: refused, flags, day, month, then
# level, carry, count of the day and of the month of the owner, and the same of its key. `refused` has the bits of the
# limits that refused (core/limit_kinds.py), or is below zero: one of NOTHING_HAPPENED, or FAILED. `day` and `month` say
# which of the three windows holds, from 1. With an hourly quota or credits, three more: the hour that holds (the middle
# one where none is counted), its count of the owner and of the key. With credits, two more: what is used of those of
# the owner and of the key.
Row = tuple[int, ...]
ROW_SIZE = 12  # numbers of a row that has no more
REPEATED, PROVISIONAL, OTHER_HOUR = 1, 2, 8  # flags of a row; OTHER_HOUR: not the middle one
FAILED = -3  # the store refused the command: nothing was taken
NOTHING_HAPPENED: Mapping[int, Literal["window", "unseeded"]] = {-1: "window", -2: "unseeded"}
_REFUSED = tuple(tuple(name for bit, name in enumerate(NAMES) if bits >> bit & 1) for bits in range(1 << len(NAMES)))


class Owner(NamedTuple):
    """Whose limits they are: a `tenant` by its id, or an `address` of a client at a route."""

    kind: Literal["tenant", "address"]
    id: str


@dataclass(slots=True)  # not frozen: one is made for every check, at a quarter of the price
class Spend:
    """What a request asks of limits: `cost` whole tokens of each bucket and of every quota, or of none.

    `calendar` None: nothing is counted by day and month; else `windows` are its own round now. `key_limits` are those
    of the key `key_id`, inside its owner's. `once` names a request that is charged once; empty: it is charged each
    time. A `peek` takes nothing.
    """

    owner: Owner
    cost: int
    limits: Limits
    calendar: Calendar | None = None
    windows: CalendarWindows | None = None
    key_id: str = ""
    key_limits: Limits = UNLIMITED
    once: str = ""
    operation: Operation = "spend"
    # As a store sends it, kept here by the store: the same spend is asked again and again.
    encoded: tuple[str, bytes] | None = field(default=None, init=False, repr=False, compare=False)
    marked: int = field(default=0, init=False, repr=False, compare=False)  # kept here by the limiter
    # What this process holds of it ahead, kept here by service/limits/leases.py.
    account: Any = field(default=None, init=False, repr=False, compare=False)

    @property
    def hourly(self) -> bool:
        """Whether hours are counted."""
        return self.limits.has(HOURS) or self.key_limits.has(HOURS)

    @property
    def credited(self) -> bool:
        """Whether credits are counted."""
        return self.limits.credits is not None or self.key_limits.credits is not None

    def at(self, now: float) -> "Spend":
        """The same spend with the windows round `now` (Unix seconds)."""
        return self if self.calendar is None else replace(self, windows=self.calendar.round(now, hours=self.hourly))


class Spent(NamedTuple):
    """The outcome of one spend; nothing was taken when `refused` names a limit.

    `now` microseconds of the store's clock. `row` has the state of buckets and counters afterwards.
    """

    refused: tuple[str, ...]
    now: int
    row: Row

    @property
    def repeated(self) -> bool:
        """Whether this request was charged before."""
        return bool(self.row[1] & REPEATED)

    @property
    def provisional(self) -> bool:
        """Whether the counters began at zero, because what was charged before was not known."""
        return bool(self.row[1] & PROVISIONAL)

    def as_provisional(self) -> "Spent":
        """The same with its flag set."""
        refused, flags, *rest = self.row
        return self._replace(row=(refused, flags | PROVISIONAL, *rest))

    @property
    def level(self) -> int:
        """Micro-tokens left in the bucket."""
        return self.row[BUCKET.places[OWNER]]

    @property
    def key_level(self) -> int:
        """Micro-tokens left in the key's bucket."""
        return self.row[BUCKET.places[KEY]]

    @property
    def used(self) -> dict[str, int]:
        """What is counted by now for each quota, and for credits, of the owner and of the key, by its name."""
        row = self.row
        return {
            name: row[place]
            for kind in (*QUOTAS, CREDITS)
            if kind.places[KEY] < len(row)
            for name, place in zip(kind.names, kind.places, strict=True)
        }


class NotApplied(NamedTuple):
    """Nothing happened at `now` (microseconds of the store's clock).

    `window`: it is in none of the windows. `unseeded`: the counters are not there, or another server's.
    """

    why: Literal["window", "unseeded"]
    now: int


def empty_row(asked: Spend, window: int) -> Row:
    """The row of an owner that has spent nothing, in windows of one number (from 1)."""
    further = (window, 0, 0) if asked.hourly or asked.credited else ()
    return 0, 0, window, window, *(0,) * 8, *further, *((0, 0) if asked.credited else ())


def spent_by(now: int, row: Row) -> Spent:
    """What a row says where something was decided."""
    return Spent(_REFUSED[row[0]], now, row)


def result_of(now: int, row: Row) -> Spent | NotApplied:
    """What a row says at `now` (microseconds). A row that FAILED is the store's to explain."""
    refused = row[0]
    return spent_by(now, row) if refused >= 0 else NotApplied(NOTHING_HAPPENED[refused], now)


def build_spend(tenant: Tenant, subject: Subject, cost: int, now: float) -> Spend | Reason:
    """The spend of a request of `cost` at `now` (Unix seconds), or the reason why no wait could ever make it fit."""
    if tenant.limits_at(now).below(cost) or subject.limits.below(cost):
        return Reason.COST_EXCEEDS_LIMIT
    return unchecked_spend(tenant, subject, cost, now)


def unchecked_spend(tenant: Tenant, subject: Subject, cost: int, now: float) -> Spend:
    """What a request of `cost` at `now` (Unix seconds) asks, whether it could ever fit or not."""
    limits = tenant.limits_at(now)
    hours = limits.has(HOURS) or subject.limits.has(HOURS)
    return Spend(
        owner=Owner("tenant", tenant.id),
        cost=cost,
        limits=limits,
        calendar=tenant.calendar,
        windows=tenant.calendar.round(now, hours=hours),
        key_id=subject.id,
        key_limits=subject.limits,
    )


def once_name(request: CheckRequest, subject: Subject, route: Match) -> str:
    """What a request is recognised by when it comes again; empty where the proxy has given it no id.

    All that its price may depend on is part of it, so that one request never pays for another: its key, what is asked
    (method, host, path with its query), and what the route made of it.
    """
    if not request.request_id:
        return ""
    host = normal_host(request.host) or request.host
    asked = (request.request_id, subject.organization_id, subject.id, request.method, host, request.path)
    parts = (*asked, route.resource, route.mode, str(route.cost))
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def spans(windows: CalendarWindows) -> list[Span]:
    """The days and months whose counters a spend may touch."""
    return [
        Span(field_of(windows, index), span.dates[index], span.dates[index + 1])
        for field_of, span in ((day_field, windows.days), (month_field, windows.months))
        for index in range(3)
    ]


def day_field(windows: CalendarWindows, index: int) -> str:
    """The counter of a day: the one that the contract names."""
    return f"d:{windows.days.dates[index]:%Y%m%d}"


def hour_field(windows: CalendarWindows, index: int) -> str:
    """The counter of an hour, by its first second, as backends/redis/layout.py names it."""
    return f"h:{windows.hours.bounds[index]}"


def month_field(windows: CalendarWindows, index: int) -> str:
    """The counter of a month, by its first date."""
    return f"m:{windows.months.dates[index]:%Y%m%d}"
