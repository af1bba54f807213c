"""What a request asks of limits, and what a store says came of it.

The arithmetic is in core/token_bucket.py, and in Lua.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

from extauthz.core.calendar import Calendar, DaysAndMonths
from extauthz.core.hosts import normal_host
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match
from extauthz.core.subject import Subject
from extauthz.core.tenants import Tenant
from extauthz.core.usage import Span

MICRO = 1_000_000
BURST, DAILY, MONTHLY = "burst", "daily", "monthly"
KEY_BURST, KEY_DAILY, KEY_MONTHLY = "key-burst", "key-daily", "key-monthly"
NAMES = (BURST, DAILY, MONTHLY, KEY_BURST, KEY_DAILY, KEY_MONTHLY)  # in the order of a row's bits

Operation = Literal["spend", "peek", "refund"]
# The outcome of one spend in numbers, as the script and its callers agree on them: refused, flags, day, month, level,
# carry, by_day, by_month, key_level, key_carry, key_by_day, key_by_month. `refused` has a bit for each of NAMES that
# refused, or is below zero: one of NOTHING_HAPPENED, or FAILED. `day` and `month` count from 1.
Row = tuple[int, ...]
REPEATED, PROVISIONAL = 1, 2  # flags of a row
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
    time. A `peek` takes nothing; a `refund` gives back what was taken at `charged_at` (microseconds).
    """

    owner: Owner
    cost: int
    limits: Limits
    calendar: Calendar | None = None
    windows: DaysAndMonths | None = None
    key_id: str = ""
    key_limits: Limits = UNLIMITED
    once: str = ""
    operation: Operation = "spend"
    charged_at: int = 0
    # As a store sends it, kept here by the store: the same spend is asked again and again.
    encoded: tuple[str, bytes] | None = field(default=None, init=False, repr=False, compare=False)
    marked: int = field(default=0, init=False, repr=False, compare=False)  # kept here by the limiter
    # What this process holds of it ahead, kept here by service/limits/leases.py.
    account: Any = field(default=None, init=False, repr=False, compare=False)

    def at(self, now: float) -> "Spend":
        """The same spend with the windows round `now` (Unix seconds)."""
        return self if self.calendar is None else replace(self, windows=self.calendar.round(now))


class InWindows(Protocol):
    """What the outcome of a spend says of an owner's windows: which of three hold, and what is counted there."""

    @property
    def day(self) -> int:
        """Of the three days."""
        ...

    @property
    def month(self) -> int:
        """Of the three months."""
        ...

    @property
    def by_day(self) -> int:
        """The counter of that day."""
        ...

    @property
    def by_month(self) -> int:
        """The counter of that month."""
        ...


class Windows(NamedTuple):
    """An InWindows, and nothing else."""

    day: int
    month: int
    by_day: int
    by_month: int


class Spent(NamedTuple):
    """The outcome of one spend as the script reports it; nothing was taken when `refused` names a limit.

    `now` microseconds of the store's clock; `level` micro-tokens and `carry` of the bucket afterwards, `by_day` and
    `by_month` the counters; the same of the key. `day` and `month`: which of the three windows holds. `repeated`: this
    request was charged before. `provisional`: the counters began at zero, since nobody knew better.
    """

    refused: tuple[str, ...]
    now: int
    level: int
    carry: int
    by_day: int
    by_month: int
    key_level: int
    key_carry: int
    key_by_day: int
    key_by_month: int
    day: int
    month: int
    repeated: bool = False
    provisional: bool = False


class NotApplied(NamedTuple):
    """Nothing happened at `now` (microseconds of the store's clock).

    `window`: it is in none of the windows. `unseeded`: the counters are not there, or another server's.
    """

    why: Literal["window", "unseeded"]
    now: int


def result_of(now: int, row: Row) -> Spent | NotApplied:
    """What a row says at `now` (microseconds of the store's clock). A row that FAILED is the store's to explain."""
    refused, flags, day, month, *state = row
    if refused < 0:
        return NotApplied(NOTHING_HAPPENED[refused], now)
    repeated, provisional = bool(flags & REPEATED), bool(flags & PROVISIONAL)
    return Spent._make((_REFUSED[refused], now, *state, day - 1, month - 1, repeated, provisional))


def build_spend(tenant: Tenant, subject: Subject, cost: int, now: float) -> Spend | Reason:
    """The spend of a request of `cost` at `now` (Unix seconds), or the reason why no wait could ever make it fit."""
    if tenant.limits_at(now).below(cost) or subject.limits.below(cost):
        return Reason.COST_EXCEEDS_LIMIT
    return unchecked_spend(tenant, subject, cost, now)


def unchecked_spend(tenant: Tenant, subject: Subject, cost: int, now: float) -> Spend:
    """What a request of `cost` at `now` (Unix seconds) asks, whether it could ever fit or not."""
    return Spend(
        owner=Owner("tenant", tenant.id),
        cost=cost,
        limits=tenant.limits_at(now),
        calendar=tenant.calendar,
        windows=tenant.calendar.round(now),
        key_id=subject.id,
        key_limits=subject.limits,
    )


def once_name(request: CheckRequest, subject: Subject, route: Match) -> str:
    """What a request is recognised by when it comes again; empty where the proxy has given it no id.

    All that its price may depend on is part of it, so that one request never pays for another: who asks, what is asked
    (method, host, path with its query), and what the route made of it.
    """
    if not request.request_id:
        return ""
    host = normal_host(request.host) or request.host
    asked = (request.request_id, subject.organization_id, subject.id, request.method, host, request.path)
    parts = (*asked, route.resource, route.mode, str(route.cost))
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def spans(windows: DaysAndMonths) -> list[Span]:
    """The days and months whose counters a spend may touch."""
    return [
        Span(field_of(windows, index), span.dates[index], span.dates[index + 1])
        for field_of, span in ((day_field, windows.days), (month_field, windows.months))
        for index in range(3)
    ]


def day_field(windows: DaysAndMonths, index: int) -> str:
    """The counter of a day: the one that the contract names."""
    return f"d:{windows.days.dates[index]:%Y%m%d}"


def month_field(windows: DaysAndMonths, index: int) -> str:
    """The counter of a month, by its first date."""
    return f"m:{windows.months.dates[index]:%Y%m%d}"
