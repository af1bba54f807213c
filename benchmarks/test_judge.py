"""The judge of `make bench-accuracy` acquits the right and convicts the wrong."""

import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from benchmarks.judge import (
    ALLOWED,
    DENIED,
    MICRO,
    Run,
    admitted,
    beyond_bucket,
    falsely_denied_by_bucket,
    falsely_denied_by_quota,
    judge_buckets,
    judge_quotas,
    off,
)
from benchmarks.load import Check
from extauthz.core.limit_kinds import BUCKET, OWNER
from extauthz.core.limits import Limits, Rate
from extauthz.core.spend import Owner, Spend, Spent
from extauthz.core.token_bucket import State, spend

RATE, BURST = Rate.parse("437/min"), 40
START = 1_790_000_000 * MICRO
FULL = Check(0, 40, START - 10, START + 10, ALLOWED, 0)  # takes all that a full bucket has

Decide = Callable[[Spent], bool]


def checks_of(seed: int, decide: Decide) -> tuple[list[Check], list[bytes]]:
    """Some 500 checks, several under way at any time, by the reference bucket; and the bucket after each spend."""
    chance, state, seen, buckets = random.Random(seed), State(), list[Check](), list[bytes]()
    now = START
    for cost in (20, *chance.choices((1, 2, 7), k=500)):  # the first makes room for what then comes in
        now += chance.randrange(200_000)
        asked = Spend(Owner("tenant", "t"), cost, Limits(RATE, BURST))
        outcome = spend(state, replace(asked, operation="peek"), now)
        assert isinstance(outcome, Spent)
        if allowed := decide(outcome):
            level, carry = outcome.level - cost * MICRO, outcome.row[BUCKET.places[OWNER] + 1]
            state.buckets[""] = level, carry, now
            buckets.append(b"%d %d %d" % (level, carry, now))
        times = now - chance.randrange(300_000), now + chance.randrange(300_000)
        seen.append(Check(0, cost, *times, ALLOWED if allowed else DENIED, -1))
    return seen, buckets


def rightly(outcome: Spent) -> bool:
    return not outcome.refused


@pytest.mark.parametrize("seed", range(20))
def test_a_right_bucket_is_acquitted(seed: int) -> None:
    """Whatever is under way together, nothing right is called wrong, and it adds up to the micro-token."""
    checks, buckets = checks_of(seed, rightly)
    first, *_, last = ({b"bucket": bucket} for bucket in buckets)
    run = judge_buckets(Run("", ["t"], checks), RATE, BURST, first=[first], last=[last])
    assert (float(run.over), run.false_denials, run.exact) == (0, 0, 1)


def test_a_micro_token_too_much_is_seen() -> None:
    """The bound is the burst and what came in until the last spend, and not a micro-token more."""
    since = b"0 0 %d" % START
    enough = START + 60 * MICRO * 7 // 437 + 1  # microseconds until seven tokens are there
    checks = [FULL, Check(0, 7, enough - 5, enough + 5, ALLOWED, 0)]
    overs = [
        judge_buckets(
            Run("", ["t"], checks), RATE, BURST, first=[{b"bucket": since}], last=[{b"bucket": b"0 0 %d" % at}]
        ).over
        for at in (enough, enough - 1)
    ]
    assert overs[0] == 0
    assert 0 < overs[1] <= Fraction(437, 60 * MICRO)


def test_admitting_too_much_is_seen_from_outside() -> None:
    """Clients alone can show it, however their checks overlap."""
    burst = [Check(0, 7, START, START + 1000 + n, ALLOWED, -1) for n in range(6)]
    assert 42 - BURST - beyond_bucket(burst, RATE, BURST) <= Fraction(437 * 1005, 60 * MICRO)
    assert beyond_bucket(burst[:5], RATE, BURST) == 0


def test_false_denials_are_seen() -> None:
    """One too strict a bucket is convicted; one denial that says itself that there was enough, too."""
    checks, _ = checks_of(1, lambda outcome: not outcome.refused and outcome.level > 25 * MICRO)
    assert falsely_denied_by_bucket(checks, RATE, BURST) > 0
    denial = Check(0, 7, START, START + 5, DENIED, 6)
    assert falsely_denied_by_bucket([FULL, denial], RATE, BURST) == 0
    assert falsely_denied_by_bucket([FULL, denial._replace(left=7)], RATE, BURST) == 1


def test_a_denial_is_false_from_the_moment_that_there_was_certainly_enough() -> None:
    """What came in until it was sent counts, what was sent until its answer may have been taken."""
    enough = START + 60 * MICRO * 7 // 437 + 11
    denial = Check(0, 7, enough, enough + 5, DENIED, -1)
    assert falsely_denied_by_bucket([FULL, denial], RATE, BURST) == 1
    assert falsely_denied_by_bucket([FULL, denial._replace(sent=enough - 20)], RATE, BURST) == 0
    assert falsely_denied_by_bucket([FULL, denial], RATE, BURST, leased=1) == 0
    other = Check(0, 1, enough + 5, enough + 9, ALLOWED, -1)
    assert falsely_denied_by_bucket([FULL, denial, other], RATE, BURST) == 0


def test_quotas_are_judged_by_what_was_certainly_left() -> None:
    """A quota may be used up to its last unit, and is then to deny."""
    taken = [Check(0, 2, 10 * n, 10 * n + 5, ALLOWED, -1) for n in range(5)]
    denial = Check(0, 1, 100, 105, DENIED, -1)
    assert falsely_denied_by_quota([*taken, denial], 10) == 0
    assert falsely_denied_by_quota([*taken, denial], 11) == 1
    assert falsely_denied_by_quota([*taken, denial._replace(sent=35, answered=38)], 10) == 1
    assert [falsely_denied_by_quota([*taken, denial], 15, leased) for leased in (4, 5)] == [1, 0]
    judged = [judge_quotas(Run("", ["t"], [*taken, denial]), quota) for quota in (9, 10, 11)]
    assert [(float(run.over), run.false_denials, run.exact) for run in judged] == [(1, 0, 0), (0, 0, 1), (0, 1, 0)]


def test_counters_are_held_against_what_clients_saw() -> None:
    """Differences of several tenants do not cancel each other out."""
    checks = [Check(who, 2, 0, 1, ALLOWED, -1) for who in (0, 1)]
    states = [{b"d:20260922": used, b"d:20260922:key": b"9 9 9", b"days": b"20260922"} for used in (b"1", b"3")]
    assert off(Run("", ["a", "b"], checks), states, {"a": (2, 1, 0)}) == (2, 2, 1, 0)
    assert admitted(checks) == 4
