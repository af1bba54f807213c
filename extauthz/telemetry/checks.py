"""What is counted at every check: plain numbers, which become metrics when they are read.

A counter of the client library locks and looks up at each step, which is several times the price of counting.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import get_args

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow
from extauthz.core.limit_kinds import REASONS
from extauthz.core.ports import Cache, Layer
from extauthz.core.reason import Reason
from extauthz.telemetry.distribution import Distribution, Seen, histograms
from extauthz.telemetry.tally import Tally

DURATION_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
AGE_BUCKETS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
STAGES = IDENTIFY, LIMITS = ("identify", "limits")

_TOO_MANY = frozenset(REASONS)
_LAYERS: tuple[Layer, ...] = get_args(Layer)
_CACHES: tuple[Cache, ...] = get_args(Cache)


class CheckCounts(Collector):
    """Decisions, how long they and their stages took, tokens taken, and the records that were served."""

    def __init__(self, dialects: Sequence[str]) -> None:
        """`dialects` are the names of those that checks may come in: what may be counted is there from the start."""
        self._dialects = tuple(dialects)
        self._reads: dict[tuple[Cache, Layer | None], int] = {
            (cache, layer): 0 for cache in _CACHES for layer in (*_LAYERS, None)
        }
        self._ages = {cache: Distribution(AGE_BUCKETS) for cache in _CACHES}
        self._decisions = {(dialect, reason): 0 for dialect in dialects for reason in Reason}
        self._durations = {dialect: Distribution(DURATION_BUCKETS) for dialect in dialects}
        self._stages = {stage: Distribution(DURATION_BUCKETS) for stage in STAGES}
        self._identify, self._limits = self._stages[IDENTIFY].observe, self._stages[LIMITS].observe
        self._tokens = 0
        self._tallies: dict[str, Tally] = {}
        self._pulls: list[Callable[[], None]] = []
        self._uncharged = 0

    def decided(self, result: CheckResult) -> None:
        """Counts an answered check."""
        decision, seconds, duration = result.decision, result.seconds, self._durations[result.dialect]
        self._decisions[result.dialect, decision.reason] += 1
        duration.observe(seconds)
        if result.trace is not None:
            duration.trace(Seen(result.trace.trace_id, seconds, result.at + seconds))
        if result.identified_after:
            self._identify(result.identified_after)
            self._limits(seconds - result.identified_after)
        if isinstance(decision, Allow):
            if decision.degraded:
                self._uncharged += 1
            if decision.balance is not None and decision.balance.has_bucket:
                self._tokens += decision.cost

    def tally(self, dialect: str) -> Tally:
        """What counts checks of a dialect of which there is no CheckResult."""
        return self._tallies.setdefault(dialect, Tally(DURATION_BUCKETS))

    def pull(self, count: Callable[[], None]) -> None:
        """Lets something count what it has not counted yet, before the metrics are read."""
        self._pulls.append(count)

    def cache_read(self, cache: Cache, layer: Layer | None, age: float | None, times: int = 1) -> None:
        """Counts where a record was found, and its age; clocks of other machines may be ahead of this one."""
        self._reads[cache, layer] += times
        if age is not None:
            self._ages[cache].observe_many(age if age > 0 else 0.0, times)

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        for pull in self._pulls:
            pull()
        for dialect, tally in self._tallies.items():
            self._add(dialect, tally)
        yield from self._known_to_dashboards()
        decisions = CounterMetricFamily("extauthz_decisions", "Answered checks.", labels=["dialect", "decision"])
        for (dialect, reason), count in self._decisions.items():
            decisions.add_metric([dialect, reason.value], count)
        yield decisions
        yield histograms(
            "extauthz_decision_duration_seconds",
            "From the arrival of a check to its answer.",
            "dialect",
            self._durations.items(),
        )
        yield histograms(
            "extauthz_stage_duration_seconds",
            "Parts of a check that came to its limits: identity and permission, and the limits.",
            "stage",
            self._stages.items(),
        )
        yield counter("extauthz_limits_uncharged", "Allowed checks that were not charged in Redis.", self._uncharged)
        hits = CounterMetricFamily("extauthz_api_key_cache_hits", "Keys found, by layer.", labels=["layer"])
        for layer in _LAYERS:
            hits.add_metric([layer], self._reads["api_key", layer])
        yield hits
        yield counter("extauthz_api_key_cache_misses", "Keys not found in any layer.", self._reads["api_key", None])
        yield histograms(
            "extauthz_record_age_seconds", "Age of the records that were served.", "cache", self._ages.items()
        )

    def _add(self, dialect: str, tally: Tally) -> None:
        """Adds what was tallied since the metrics were read the last time."""
        taken = tally.take()
        for reason, count in taken.reasons.items():
            self._decisions[dialect, reason] += count
        self._tokens += taken.tokens
        self._durations[dialect].add(taken.durations.counts, taken.durations.total)
        self._stages[IDENTIFY].add(taken.identify.counts, taken.identify.total)
        self._stages[LIMITS].add(taken.limits.counts, taken.limits.total)

    def _known_to_dashboards(self) -> Iterator[Metric]:
        """Five of the six that other limiters have, too."""
        of_limits = {reason: self._count(reason) for reason in _TOO_MANY}
        found = sum(self._reads["tenant_quota", layer] for layer in _LAYERS)
        yield counter("rate_limiter_rejections", "Requests refused with 429.", sum(of_limits.values()))
        yield counter(
            "daily_quota_hits", "Requests refused by the daily quota.", of_limits[Reason.DAILY_QUOTA_EXCEEDED]
        )
        yield counter("token_bucket_consumed", "Tokens taken from buckets.", self._tokens)
        yield counter("tenant_quota_cache_hits", "Limits found in a cache.", found)
        yield counter("tenant_quota_cache_misses", "Limits found in no cache.", self._reads["tenant_quota", None])

    def _count(self, reason: Reason) -> int:
        return sum(self._decisions[dialect, reason] for dialect in self._dialects)


def counter(name: str, documentation: str, value: float) -> CounterMetricFamily:
    """A counter without labels."""
    return CounterMetricFamily(name, documentation, value=value)
