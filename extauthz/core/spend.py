"""One spend: refill buckets, check every limit, take from all or from none.

`spend` is the twin of the Lua script that runs in Redis: integers only, the same steps in the same order. A bucket is
kept in micro-tokens and microseconds, so a rate of `tokens` in `seconds` adds tokens / seconds micro-tokens a
microsecond; what that division leaves is carried, so nothing is lost over time.
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from extauthz.core.calendar import Calendar, DaysAndMonths
from extauthz.core.keys import ApiKey
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.tenants import Tenant
from extauthz.core.usage import Span

MICRO = 1_000_000
BURST, DAILY, MONTHLY = "burst", "daily", "monthly"
KEY_BURST, KEY_DAILY, KEY_MONTHLY = "key-burst", "key-daily", "key-monthly"
NAMES = (BURST, DAILY, MONTHLY, KEY_BURST, KEY_DAILY, KEY_MONTHLY)  # in the order of the script's bits
FREE_REPEATS = 2  # of a request that was charged once
GONE = 0, 0, 0

Operation = Literal["spend", "peek", "refund"]


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
    # As a store writes it, kept here by the store: the same spend is asked again and again.
    written: tuple[str, str] | None = field(default=None, init=False, repr=False, compare=False)

    def at(self, now: float) -> "Spend":
        """The same spend with the windows round `now` (Unix seconds)."""
        return self if self.calendar is None else replace(self, windows=self.calendar.round(now))


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


class Untaken(NamedTuple):
    """Nothing happened at `now` (microseconds of the store's clock).

    `window`: it is in none of the windows. `unseeded`: the counters are not there, or another server's.
    """

    why: Literal["window", "unseeded"]
    now: int


@dataclass(slots=True)
class State:
    """An owner's stored state: buckets as (level, carry, at), by key or "" for the owner's own, and counters by field.

    A field is a window's name, for a key with its id behind it; what a key was charged on a day is (cost, requests,
    changes). `once` counts the free repeats of a request.
    """

    seeded: bool = True
    buckets: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    days: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    once: dict[str, int] = field(default_factory=dict)


def plan(tenant: Tenant, key: ApiKey, cost: int, now: float, *, once: str = "") -> Spend | Reason:
    """The spend of a request of `cost` at `now` (Unix seconds), or the reason why no wait could ever make it fit."""
    limits = tenant.limits_at(now)
    for burst in (limits.burst, key.limits.burst):
        if burst is not None and cost > burst:
            return Reason.COST_EXCEEDS_LIMIT
    return Spend(
        owner=Owner("tenant", tenant.id),
        cost=cost,
        limits=limits,
        calendar=tenant.calendar,
        windows=tenant.calendar.round(now),
        key_id=key.id,
        key_limits=key.limits,
        once=once,
    )


def once_name(request: CheckRequest, key: ApiKey) -> str:
    """What a request is recognised by when it comes again; empty where the proxy has given it no id."""
    if not request.request_id:
        return ""
    parts = (request.request_id, key.id, request.method, request.path)
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


def refill(stored: tuple[int, int, int] | None, rate: Rate, burst: int, now: int) -> tuple[int, int]:
    """Level (micro-tokens) and carry of a bucket at `now` (microseconds), at most full; the clock may step back."""
    full = burst * MICRO
    if stored is None:
        return full, 0
    level, carry, at = stored
    level = min(level, full)
    carry = carry if carry < rate.seconds else 0
    elapsed = max(now - at, 0)
    whole, part = divmod(rate.tokens, rate.seconds)
    if whole > 0 and elapsed >= -((level - full) // whole):
        return full, 0
    # `elapsed` is split before it is multiplied, so that no product passes 2^53 in the script.
    periods, rest = divmod(elapsed, rate.seconds)
    extra, carry = divmod(rest * part + carry, rate.seconds)
    level += elapsed * whole + periods * part + extra
    return (full, 0) if level >= full else (level, carry)


def spend(state: State, asked: Spend, now: int) -> Spent | Untaken:
    """One step at `now` (microseconds); `state` changes only when something was taken or given back."""
    windows = asked.windows
    day = month = 0
    if windows is not None:
        at = asked.charged_at if asked.operation == "refund" else now
        days, months = windows.days.index_at(at // MICRO), windows.months.index_at(at // MICRO)
        if days is None or months is None:
            return Untaken("window", now)
        if not state.seeded:
            return Untaken("unseeded", now)
        day, month = days, months
    step = _Step(state, asked, now, (day, month))
    if asked.operation == "refund":
        step.give_back()
        return step.outcome(())
    if asked.operation == "spend" and asked.once and state.once.get(asked.once, FREE_REPEATS) < FREE_REPEATS:
        state.once[asked.once] += 1
        return step.outcome((), repeated=True)
    refused = step.refused()
    if not refused and asked.operation == "spend":
        step.take()
    return step.outcome(refused)


class _Step:
    """One check's view of the state."""

    def __init__(self, state: State, asked: Spend, now: int, held: tuple[int, int]) -> None:
        self.state, self.asked, self.now = state, asked, now
        self.day, self.month = day, month = held
        self.buckets = {
            name: refill(state.buckets.get(name), limits.rate, limits.burst or 0, now)
            for name, limits in (("", asked.limits), (asked.key_id, asked.key_limits))
            if limits.rate is not None
        }
        self.fields: tuple[str, str, str, str] | None = None
        if asked.windows is not None:
            by_day, by_month = day_field(asked.windows, day), month_field(asked.windows, month)
            self.fields = (by_day, by_month, f"{by_day}:{asked.key_id}", f"{by_month}:{asked.key_id}")

    def used(self) -> tuple[int, int, int, int]:
        """The counters: day and month, of the owner and of the key."""
        if self.fields is None:
            return 0, 0, 0, 0
        by_day, by_month, key_by_day, key_by_month = self.fields
        counters = self.state.counters
        return (
            counters.get(by_day, 0),
            counters.get(by_month, 0),
            self.state.days.get(key_by_day, GONE)[0],
            counters.get(key_by_month, 0),
        )

    def refused(self) -> tuple[str, ...]:
        asked = self.asked
        by_day, by_month, key_by_day, key_by_month = self.used()
        refused: list[str] = []
        for names, key, limits, today, this_month in (
            (NAMES[:3], "", asked.limits, by_day, by_month),
            (NAMES[3:], asked.key_id, asked.key_limits, key_by_day, key_by_month),
        ):
            if limits.rate is not None and self.buckets[key][0] < asked.cost * MICRO:
                refused.append(names[0])
            if self.fields is not None and limits.daily_quota is not None and today + asked.cost > limits.daily_quota:
                refused.append(names[1])
            quota = limits.monthly_quota
            if self.fields is not None and quota is not None and this_month + asked.cost > quota:
                refused.append(names[2])
        return tuple(refused)

    def take(self) -> None:
        cost = self.asked.cost
        for name, (level, carry) in self.buckets.items():
            self.buckets[name] = level - cost * MICRO, carry
            self.state.buckets[name] = level - cost * MICRO, carry, self.now
        self._count(cost, 1)
        if self.asked.once:
            self.state.once.setdefault(self.asked.once, 0)

    def give_back(self) -> None:
        for name, limits in (("", self.asked.limits), (self.asked.key_id, self.asked.key_limits)):
            if name in self.buckets and limits.burst is not None:
                level, carry = self.buckets[name]
                level, full = level + self.asked.cost * MICRO, limits.burst * MICRO
                self.buckets[name] = (full, 0) if level >= full else (level, carry)
                self.state.buckets[name] = *self.buckets[name], self.now
        self._count(-self.asked.cost, -1)

    def _count(self, cost: int, requests: int) -> None:
        if self.fields is None:
            return
        by_day, by_month, key_by_day, key_by_month = self.fields
        for name in (by_day, by_month, key_by_month):
            self.state.counters[name] = max(self.state.counters.get(name, 0) + cost, 0)
        charged, allowed, changes = self.state.days.get(key_by_day, GONE)
        self.state.days[key_by_day] = max(charged + cost, 0), max(allowed + requests, 0), changes + 1

    def outcome(self, refused: tuple[str, ...], *, repeated: bool = False) -> Spent:
        by_day, by_month, key_by_day, key_by_month = self.used()
        level, carry = self.buckets.get("", (0, 0)) if self.asked.limits.rate is not None else (0, 0)
        key_level, key_carry = (0, 0)
        if self.asked.key_limits.rate is not None:
            key_level, key_carry = self.buckets[self.asked.key_id]
        return Spent(
            refused=refused,
            now=self.now,
            level=level,
            carry=carry,
            by_day=by_day,
            by_month=by_month,
            key_level=key_level,
            key_carry=key_carry,
            key_by_day=key_by_day,
            key_by_month=key_by_month,
            day=self.day,
            month=self.month,
            repeated=repeated,
        )
