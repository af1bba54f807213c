"""Metrics counted as plain numbers read as if the client library had counted them."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from extauthz.app.listeners import dialect_names
from extauthz.core.balance import Balance, LimitStatus
from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow, Decision, Deny, deny
from extauthz.core.limit_kinds import REFUSED_BY
from extauthz.core.ports import Cache, Layer
from extauthz.core.reason import Reason
from extauthz.telemetry.checks import AGE_BUCKETS, DURATION_BUCKETS, STAGES, CheckCounts
from tests.limit_names import BURST, DAILY, KEY_BURST, KEY_MONTHLY

DIALECTS = dialect_names()

disable_created_metrics()  # type: ignore[no-untyped-call]  # as the service does


class Library:
    """The same events in the client library's own counters."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.rejections = Counter("rate_limiter_rejections", "Requests refused with 429.", registry=registry)
        self.daily = Counter("daily_quota_hits", "Requests refused by the daily quota.", registry=registry)
        self.tokens = Counter("token_bucket_consumed", "Tokens taken from buckets.", registry=registry)
        self.tenant_hits = Counter("tenant_quota_cache_hits", "Limits found in a cache.", registry=registry)
        self.tenant_misses = Counter("tenant_quota_cache_misses", "Limits found in no cache.", registry=registry)
        self.decisions = Counter("extauthz_decisions", "Answered checks.", ["dialect", "decision"], registry=registry)
        self.durations = Histogram(
            "extauthz_decision_duration_seconds",
            "From the arrival of a check to its answer.",
            ["dialect"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.stages = Histogram(
            "extauthz_stage_duration_seconds",
            "Parts of a check that came to its limits: identity and permission, and the limits.",
            ["stage"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.uncharged = Counter(
            "extauthz_limits_uncharged", "Allowed checks that were not charged in Redis.", registry=registry
        )
        self.key_hits = Counter("extauthz_api_key_cache_hits", "Keys found, by layer.", ["layer"], registry=registry)
        self.key_misses = Counter("extauthz_api_key_cache_misses", "Keys not found in any layer.", registry=registry)
        self.ages = Histogram(
            "extauthz_record_age_seconds",
            "Age of the records that were served.",
            ["cache"],
            buckets=AGE_BUCKETS,
            registry=registry,
        )
        for stage in STAGES:
            self.stages.labels(stage)
        for cache in get_args(Cache):
            self.ages.labels(cache)
        for dialect in DIALECTS:  # all possible series exist from the start
            self.durations.labels(dialect)
            for reason in Reason:
                self.decisions.labels(dialect, reason.value)
        for layer in get_args(Layer):
            self.key_hits.labels(layer)

    def decided(self, result: CheckResult) -> None:
        decision = result.decision
        self.decisions.labels(result.dialect, decision.reason.value).inc()
        self.durations.labels(result.dialect).observe(result.seconds)
        if result.identified_after:
            self.stages.labels("identify").observe(result.identified_after)
            self.stages.labels("limits").observe(result.seconds - result.identified_after)
        balance = decision.balance
        if isinstance(decision, Allow):
            self.uncharged.inc(int(decision.degraded))
            if balance is not None and any(each.name in (BURST, KEY_BURST) for each in balance.limit_statuses):
                self.tokens.inc(decision.cost)
            return
        if decision.reason in REFUSED_BY.values():
            self.rejections.inc()
        if decision.reason is Reason.DAILY_QUOTA_EXCEEDED:
            self.daily.inc()

    def cache_read(self, cache: Cache, layer: Layer | None, age: float | None) -> None:
        if age is not None:
            self.ages.labels(cache).observe(max(age, 0.0))
        if cache == "tenant_quota":
            (self.tenant_misses if layer is None else self.tenant_hits).inc()
        elif layer is None:
            self.key_misses.inc()
        else:
            self.key_hits.labels(layer).inc()


def exposition(counts: CheckCounts) -> bytes:
    registry = CollectorRegistry()
    registry.register(counts)
    return generate_latest(registry)


def left(*names: str) -> Balance:
    """The state of some limits."""
    return Balance(tuple(LimitStatus(name, 10, 1, 9, 1) for name in names), (), 0, None)


DECISIONS: list[Decision] = [
    Allow(),
    Allow(degraded=True),
    Allow(cost=3),
    *(Allow(balance=left(*names), cost=cost) for cost in (0, 1, 7) for names in ((), (BURST,), (DAILY,))),
    Allow(balance=left(DAILY, BURST, KEY_BURST), cost=2),
    Allow(balance=left(KEY_BURST, KEY_MONTHLY), cost=5, shadow=True),
    *(Deny(reason, reason.value, balance=left(BURST)) for reason in set(REFUSED_BY.values())),
    *(deny(reason) for reason in Reason if reason is not Reason.ALLOW),
]


def checked(dialect: str, decision: Decision, seconds: float, identified_after: float = 0.0) -> CheckResult:
    return CheckResult(dialect, None, 0.0, decision, seconds=seconds, identified_after=identified_after)


moments = st.one_of(st.sampled_from((0.0, *DURATION_BUCKETS)), st.floats(0, 100))
events = st.lists(
    st.builds(checked, st.sampled_from(DIALECTS), st.sampled_from(DECISIONS), moments, moments), max_size=30
)
layers, ages = st.sampled_from((*get_args(Layer), None)), st.one_of(st.none(), st.floats(-10, 5000))
reads = st.lists(st.tuples(st.sampled_from(get_args(Cache)), layers, ages), max_size=20)


@given(events, reads)
def test_it_reads_as_if_the_library_had_counted(
    asked: list[CheckResult], read: list[tuple[Cache, Layer | None, float | None]]
) -> None:
    """After the same events the exposition is the same, byte for byte: names, help, order, labels, values."""
    counts, library = CheckCounts(DIALECTS), Library()
    for event in asked:
        counts.decided(event)
        library.decided(event)
    for each in read:
        counts.cache_read(*each)
        library.cache_read(*each)
    assert exposition(counts) == generate_latest(library.registry)


@pytest.mark.parametrize("bound", DURATION_BUCKETS)
def test_a_bound_belongs_to_its_bucket(bound: float) -> None:
    """A check that took exactly so long is counted there, a longer one is not."""
    for seconds, inside in ((bound, 1), (bound + 1e-9, 0)):
        counts = CheckCounts(DIALECTS)
        counts.decided(checked("envoy", Allow(), seconds))
        line = f'extauthz_decision_duration_seconds_bucket{{dialect="envoy",le="{bound}"}} {inside:.1f}\n'
        assert line.encode() in exposition(counts)


def test_all_series_exist_from_the_start() -> None:
    """A rate over a counter sees its first step."""
    assert exposition(CheckCounts(DIALECTS)) == generate_latest(Library().registry)
