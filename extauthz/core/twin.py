"""One spend: refill buckets, check every limit, take from all or from none. The twin of the Lua script in Redis.

Integers only, the same steps in the same order; a property test drives both. A bucket is kept in micro-tokens and
microseconds, so a rate of `tokens` in `seconds` adds tokens / seconds micro-tokens a microsecond; what that division
leaves is carried, so nothing is lost over time.
"""

from dataclasses import dataclass, field

from extauthz.core.limits import Rate
from extauthz.core.spend import MICRO, NAMES, Spend, Spent, Untaken, day_field, month_field

FREE_REPEATS = 2  # of a request that was charged once
GONE = 0, 0, 0


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
    """One step at `now` (microseconds); `state` changes only when something was taken or given back.

    Where the clock has stepped back, a refusal sets the time of the buckets to `now`, so that they fill again.
    """
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
    if asked.operation == "spend":
        if refused:
            step.set_back()
        else:
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

    def set_back(self) -> None:
        for name, (level, carry) in self.buckets.items():
            stored = self.state.buckets.get(name)
            if stored is not None and stored[2] > self.now:
                self.state.buckets[name] = level, carry, self.now

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
