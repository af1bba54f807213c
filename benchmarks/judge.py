"""Was a limiter right? Judged by what its clients saw and what Redis keeps, with none of the limiter's own arithmetic.

A check was decided at some moment between `sent` and `answered`; no more is known. Wrong is what is wrong at every
moment that is possible. Whole numbers only: MICRO * seconds units are a token, so that a rate of `tokens` in `seconds`
brings `tokens` units in a microsecond.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from benchmarks.load import Check
from extauthz.core.limits import Rate

MICRO = 1_000_000
ALLOWED, DENIED = 200, 429

Fields = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run has shown. `over` in tokens, `exact` the number of tenants whose counts agree."""

    name: str
    tenants: Sequence[str]
    checks: Sequence[Check]
    over: Fraction = Fraction()
    false_denials: int = 0
    exact: int = 0

    def by_tenant(self) -> list[list[Check]]:
        """The checks of each tenant."""
        parts: list[list[Check]] = [[] for _ in self.tenants]
        for check in self.checks:
            parts[check.who].append(check)
        return parts


class Off(NamedTuple):
    """By how much counters differ from what clients saw, the tenants' differences added up."""

    redis: int
    cost: int
    allowed: int
    refused: int


def judge_buckets(
    run: Run, rate: Rate, burst: int, *, first: Sequence[Fields], last: Sequence[Fields], leased: int = 0
) -> Run:
    """The run judged; `first` are the tenants' hashes after their first spend from a full bucket, `last` at the end.

    So much of a bucket may be `leased` to other workers when one denies.
    """
    over, false_denials, exact = Fraction(), 0, 0
    unit = MICRO * rate.seconds
    for checks, opened, ended in zip(run.by_tenant(), first, last, strict=True):
        (*_, since), (level, carry, until) = _numbers(opened[b"bucket"]), _numbers(ended[b"bucket"])
        spare = burst * unit + rate.tokens * (until - since) - admitted(checks) * unit
        over += max(Fraction(-spare, unit), beyond_bucket(checks, rate, burst))
        false_denials += falsely_denied_by_bucket(checks, rate, burst, leased)
        exact += spare == level * rate.seconds + carry
    return replace(run, over=over, false_denials=false_denials, exact=exact)


def judge_quotas(run: Run, quota: int, leased: int = 0) -> Run:
    """The run judged, where nothing but a daily quota limits each tenant, of which so much may be leased to others."""
    parts = run.by_tenant()
    return replace(
        run,
        over=Fraction(sum(max(admitted(checks) - quota, 0) for checks in parts)),
        false_denials=sum(falsely_denied_by_quota(checks, quota, leased) for checks in parts),
        exact=sum(admitted(checks) == quota for checks in parts),
    )


def off(run: Run, states: Sequence[Fields], saved: Mapping[str, Sequence[int]]) -> Off:
    """How far counters are off: those of the tenants' hashes, and cost, requests and refusals that were saved."""
    sums = [0, 0, 0, 0]
    for tenant_id, checks, fields in zip(run.tenants, run.by_tenant(), states, strict=True):
        cost = admitted(checks)
        # The organization's own counters; with a key's id behind the day, what that key took of it.
        counted = sum(int(used) for name, used in fields.items() if name.startswith(b"d:") and name.count(b":") == 1)
        statuses = [check.status for check in checks]
        seen = (cost, cost, statuses.count(ALLOWED), statuses.count(DENIED))
        for place, (kept, real) in enumerate(zip((counted, *saved.get(tenant_id, (0, 0, 0))), seen, strict=True)):
            sums[place] += abs(kept - real)
    return Off(*sums)


def admitted(checks: Sequence[Check]) -> int:
    """What the allowed ones cost together."""
    return sum(check.cost for check in checks if check.status == ALLOWED)


def beyond_bucket(checks: Sequence[Check], rate: Rate, burst: int) -> Fraction:
    """Tokens that were certainly admitted beyond burst + rate x time, in the worst stretch of time; 0 where in none."""
    unit = MICRO * rate.seconds
    allowed = [check for check in checks if check.status == ALLOWED]
    begun, sent = _sums(allowed, lambda check: check.sent)
    ended, answered = _sums(allowed, lambda check: check.answered)
    # From u to v certainly: all that was answered by v, less all that was sent before u.
    starts = list(accumulate((rate.tokens * u - begun[n] * unit for n, u in enumerate(sent)), max))
    excesses = (
        ended[n] * unit - rate.tokens * v + starts[bisect_right(sent, v) - 1] - burst * unit
        for n, v in enumerate(answered, 1)
    )
    return Fraction(max(0, max(excesses, default=0)), unit)


def falsely_denied_by_bucket(checks: Sequence[Check], rate: Rate, burst: int, leased: int = 0) -> int:
    """How many were denied though the bucket certainly had enough, or by an answer that says itself that it had.

    Enough is what was asked for beyond what may be `leased` to others.
    """
    unit = MICRO * rate.seconds
    allowed = [check for check in checks if check.status == ALLOWED]
    begun, sent = _sums(allowed, lambda check: check.sent)
    ended, answered = _sums(allowed, lambda check: check.answered)
    # A level is the least, over all moments u before, of a full bucket at u, what came in since, less what was taken.
    # Taken since u is at most all that was sent by now, less all that was answered before u.
    peaks = list(accumulate((rate.tokens * u - ended[n] * unit for n, u in enumerate(answered)), max))

    def least(check: Check) -> int:
        peak = rate.tokens * check.sent - ended[bisect_left(answered, check.sent)] * unit
        before = bisect_right(answered, check.sent)
        peak = max([peak, *peaks[before - 1 : before]])
        taken = begun[bisect_right(sent, check.answered)] * unit
        return burst * unit + rate.tokens * check.sent - taken - peak

    denied = (check for check in checks if check.status == DENIED)
    return sum(check.left >= check.cost or least(check) >= (check.cost + leased) * unit for check in denied)


def falsely_denied_by_quota(checks: Sequence[Check], quota: int, leased: int = 0) -> int:
    """How many were denied though the quota certainly had enough, beyond what may be leased to others."""
    begun, sent = _sums([check for check in checks if check.status == ALLOWED], lambda check: check.sent)
    denied = (check for check in checks if check.status == DENIED)
    return sum(begun[bisect_right(sent, check.answered)] + check.cost + leased <= quota for check in denied)


def _sums(checks: Sequence[Check], moment: Callable[[Check], int]) -> tuple[list[int], list[int]]:
    """What was taken before each of the moments, in order, and at last by all; and the moments."""
    ordered = sorted(checks, key=moment)
    return [0, *accumulate(check.cost for check in ordered)], [moment(check) for check in ordered]


def _numbers(value: bytes) -> tuple[int, ...]:
    return tuple(map(int, value.split()))
