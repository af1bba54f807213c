"""Token buckets and counters, one spend: refill, check every limit, take from all or from none.

The reference of the Lua script in Redis: integers only, the same steps in the same order, which a property test
compares. A bucket is kept in micro-tokens and microseconds, so a rate of `tokens` in `seconds` adds tokens / seconds
micro-tokens a microsecond; what that division leaves is carried, so nothing is lost over time.
"""

from dataclasses import dataclass, field

from extauthz.core.leases import ENDED, LAPSED_MAX, Lease, lapsing
from extauthz.core.limit_kinds import BUCKET, CREDITS, HOURS, KEY, OWNER, QUOTAS
from extauthz.core.limits import Limits, Rate
from extauthz.core.spend import (
    MICRO,
    OTHER_HOUR,
    REPEATED,
    NotApplied,
    Row,
    Spend,
    Spent,
    day_field,
    month_field,
    spent_by,
)

FREE_REPEATS = 2  # of a request that was charged once
GONE = 0, 0, 0
Hours = tuple[int, int, int, int]
NO_HOURS: Hours = (0, 0, 0, 0)
NOTHING_USED = (0,) * len(QUOTAS), (0,) * len(QUOTAS)
MIDDLE = 1


@dataclass(slots=True)
class State:
    """An owner's stored state: buckets as (level, carry, at), by key or "" for the owner's own, and counters by field.

    A field is a window's name, for a key with its id behind it; what a key was charged on a day is (cost, requests,
    changes). `hours` has two hours of the owner and of keys: start, count, start, count; `credits` what is
    used of those of the owner and of keys. `once` counts the free repeats
    of a request. `leases` are those that hold tokens, by id; `lapsed` those whose workers did not close them.
    """

    seeded: bool = True
    provisional: bool = False
    buckets: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    days: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    hours: dict[str, Hours] = field(default_factory=dict)
    credits: dict[str, int] = field(default_factory=dict)
    once: dict[str, int] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    lapsed: dict[str, Lease] = field(default_factory=dict)


def refill(stored: tuple[int, int, int] | None, rate: Rate, burst: int, now: int, *, held: int = 0) -> tuple[int, int]:
    """Level (micro-tokens) and carry of a bucket at `now` (microseconds), at most full; the clock may step back.

    `held` tokens of its capacity are leased.
    """
    full = max(burst - held, 0) * MICRO
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


def spend(state: State, asked: Spend, now: int) -> Spent | NotApplied:
    """One step at `now` (microseconds); `state` changes only when something was taken.

    Where the clock has stepped back, a refusal sets the time of the buckets to `now`, so that they fill again.
    """
    windows = asked.windows
    day = month = hour = 0
    if windows is not None:
        at = now // MICRO
        days, months = windows.days.index_at(at), windows.months.index_at(at)
        hours = windows.hours.index_at(at) if asked.hourly else MIDDLE
        if days is None or months is None or hours is None:
            return NotApplied("window", now)
        if not state.seeded:
            return NotApplied("unseeded", now)
        day, month, hour = days, months, hours
    step = Step(state, asked, now, (day, month), hour=hour)
    if asked.operation != "peek":
        step.lapse()
    if asked.operation == "spend" and asked.once and state.once.get(asked.once, FREE_REPEATS) < FREE_REPEATS:
        state.once[asked.once] += 1
        return step.outcome(repeated=True)
    refused = step.refused()
    if asked.operation == "spend":
        if refused:
            step.set_back()
        else:
            step.take(asked.cost, 1)
    return step.outcome(refused)


class Step:
    """One check's view of the state: buckets refilled, at most to what leases leave of their capacity."""

    def __init__(self, state: State, asked: Spend, now: int, at: tuple[int, int], *, hour: int = MIDDLE) -> None:
        self.state, self.asked, self.now, self.hour = state, asked, now, hour
        self.hourly = asked.windows is not None and asked.hourly
        self.credited = asked.windows is not None and asked.credited
        self.day, self.month = day, month = at
        self.buckets = {
            name: refill(state.buckets.get(name), limits.rate, limits.burst or 0, now, held=self.held(name))
            for name, limits in (("", asked.limits), (asked.key_id, asked.key_limits))
            if limits.rate is not None
        }
        self.fields: tuple[str, str, str, str] | None = None
        if asked.windows is not None:
            by_day, by_month = day_field(asked.windows, day), month_field(asked.windows, month)
            self.fields = (by_day, by_month, f"{by_day}:{asked.key_id}", f"{by_month}:{asked.key_id}")

    def held(self, name: str) -> int:
        """Tokens of a bucket that are leased.

        Those of a key's own bucket are until that key spends again, because only then its limits are given.
        """
        leases = self.state.leases.values()
        if name == "":
            return sum(lease.held for lease in leases if lease.stage != ENDED)
        return sum(lease.held for lease in leases if lease.key_id == name)

    def lapse(self) -> None:
        """Ends leases that are late. What was granted stays charged, since it may have been served."""
        leases, before = self.state.leases, dict(self.state.leases)
        for lease_id, lease in before.items():
            leases[lease_id] = seen = lapsing(lease, self.now)
            if seen.stage == ENDED and (seen.key_id == self.asked.key_id or not seen.own):
                self.state.lapsed[lease_id] = leases.pop(lease_id)
        for lease_id in list(self.state.lapsed)[:-LAPSED_MAX]:
            del self.state.lapsed[lease_id]
        if leases != before:
            self.store()

    def store(self) -> None:
        """Keeps the buckets as they are now: what comes in from here on may fill another capacity."""
        for name, (level, carry) in self.buckets.items():
            self.state.buckets[name] = level, carry, self.now

    def used(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The counters of the quotas, in their order: of the owner and of the key."""
        if self.fields is None:
            return NOTHING_USED
        by_day, by_month, key_by_day, key_by_month = self.fields
        counters = self.state.counters
        key_day = self.state.days.get(key_by_day, GONE)[0]
        owner = counters.get(by_day, 0), counters.get(by_month, 0), self._of_hour("", self.asked.limits)
        key_hour = self._of_hour(self.asked.key_id, self.asked.key_limits)
        return owner, (key_day, counters.get(key_by_month, 0), key_hour)

    def refused(self) -> int:
        """The bits of the limits that have less left than is asked."""
        asked, used, bits = self.asked, self.used(), 0
        for side, key, limits in ((OWNER, "", asked.limits), (KEY, asked.key_id, asked.key_limits)):
            if limits.rate is not None and self.buckets[key][0] < asked.cost * MICRO:
                bits |= 1 << BUCKET.bits[side]
            for quota, size, count in zip(QUOTAS, limits.quotas, used[side], strict=True):
                if self.fields is not None and size is not None and count + asked.cost > size:
                    bits |= 1 << quota.bits[side]
            spent = self.state.provisional or self._of_credits(key, limits) + asked.cost > (limits.credits or 0)
            if self.credited and limits.credits is not None and spent:
                bits |= 1 << CREDITS.bits[side]
        return bits

    def take(self, cost: int, requests: int) -> None:
        """Takes from all limits, and counts requests."""
        for name, (level, carry) in self.buckets.items():
            self.buckets[name] = level - cost * MICRO, carry
        self.store()
        self._count(cost, requests)
        if self.asked.once:
            self.state.once.setdefault(self.asked.once, 0)

    def set_back(self) -> None:
        """Buckets whose time is yet to come fill from now on."""
        for name, (level, carry) in self.buckets.items():
            stored = self.state.buckets.get(name)
            if stored is not None and stored[2] > self.now:
                self.state.buckets[name] = level, carry, self.now

    def give_back(self, cost: int, requests: int) -> None:
        """Gives back what was taken, as far as it fits beside what is leased."""
        for name, limits in (("", self.asked.limits), (self.asked.key_id, self.asked.key_limits)):
            if name in self.buckets and limits.burst is not None:
                level, carry = self.buckets[name]
                level, full = level + cost * MICRO, max(limits.burst - self.held(name), 0) * MICRO
                self.buckets[name] = (full, 0) if level >= full else (level, carry)
        self.store()
        self._count(-cost, -requests)

    def _count(self, cost: int, requests: int) -> None:
        if self.fields is None:
            return
        by_day, by_month, key_by_day, key_by_month = self.fields
        for name in (by_day, by_month, key_by_month):
            self.state.counters[name] = max(self.state.counters.get(name, 0) + cost, 0)
        for name, limits in (("", self.asked.limits), (self.asked.key_id, self.asked.key_limits)):
            if limits.has(HOURS):
                start, count, *other = self._hours(name)
                self.state.hours[name] = start, max(count + cost, 0), other[0], other[1]
            if limits.credits is not None:
                self.state.credits[name] = self.state.credits.get(name, 0) + cost
        charged, allowed, changes = self.state.days.get(key_by_day, GONE)
        self.state.days[key_by_day] = max(charged + cost, 0), max(allowed + requests, 0), changes + 1

    def _of_hour(self, name: str, limits: Limits) -> int:
        return self._hours(name)[1] if limits.has(HOURS) else 0

    def _of_credits(self, name: str, limits: Limits) -> int:
        return 0 if limits.credits is None else self.state.credits.get(name, 0)

    def _hours(self, name: str) -> Hours:
        """The hour that holds, then the other one that is kept: the later one where a third begins."""
        windows = self.asked.windows
        assert windows is not None  # noqa: S101 - only then hours are counted
        start = windows.hours.bounds[self.hour]
        begun, count, other, before = self.state.hours.get(name, NO_HOURS)
        if start == begun:
            return begun, count, other, before
        if start == other:
            return other, before, begun, count
        return (start, 0, begun, count) if begun >= other else (start, 0, other, before)

    def outcome(self, refused: int = 0, *, repeated: bool = False) -> Spent:
        """The result, with the state as it is now."""
        return spent_by(self.now, self.row(refused, REPEATED if repeated else 0))

    def row(self, refused: int, flags: int) -> Row:
        """The state as it is now, behind `refused` and `flags`."""
        (*used, hour), (*used_by_key, key_hour) = self.used()
        owner = self._state_of("", self.asked.limits, used)
        key = self._state_of(self.asked.key_id, self.asked.key_limits, used_by_key)
        further: tuple[int, ...] = (self.hour + 1, hour, key_hour) if self.hourly or self.credited else ()
        if self.credited:
            own = self._of_credits(self.asked.key_id, self.asked.key_limits)
            further += (self._of_credits("", self.asked.limits), own)
        if self.hourly and self.hour != MIDDLE:
            flags |= OTHER_HOUR
        return refused, flags, self.day + 1, self.month + 1, *owner, *key, *further

    def _state_of(self, key_id: str, limits: Limits, used: list[int]) -> tuple[int, ...]:
        bucket = (0, 0) if limits.rate is None else self.buckets[key_id]
        return *bucket, *used
