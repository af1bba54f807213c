"""What is counted at every check: plain numbers, which become metrics when somebody reads them.

A counter of the client library locks and looks up at each step, which is several times the price of counting.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import get_args

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.core.balance import BUCKETS, REFUSED_BY
from extauthz.core.decision import Allow, Decision
from extauthz.core.ports import Cache, Layer
from extauthz.core.reason import Reason

DURATION_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)

_TOO_MANY = frozenset(REFUSED_BY.values())
_LAYERS: tuple[Layer, ...] = get_args(Layer)


class CheckCounts(Collector):
    """Decisions, how long they took, tokens taken, and where records were found (`reads`, by cache and layer)."""

    def __init__(self, dialects: Sequence[str]) -> None:
        """`dialects` are the names of those that checks may come in: what may be counted is there from the start."""
        self._dialects = tuple(dialects)
        self.reads: dict[tuple[Cache, Layer | None], int] = {
            (cache, layer): 0 for cache in get_args(Cache) for layer in (*_LAYERS, None)
        }
        self._decisions = {(dialect, reason): 0 for dialect in dialects for reason in Reason}
        self._durations = {dialect: [0] * (len(DURATION_BUCKETS) + 1) for dialect in dialects}
        self._seconds = dict.fromkeys(self._dialects, 0.0)
        self._tokens = 0

    def decided(self, dialect: str, decision: Decision, seconds: float) -> None:
        """Counts an answered check."""
        self._decisions[dialect, decision.reason] += 1
        self._durations[dialect][bisect_left(DURATION_BUCKETS, seconds)] += 1
        self._seconds[dialect] += seconds
        if isinstance(decision, Allow) and decision.cost:
            for standing in decision.balance.standings if decision.balance is not None else ():
                if standing.name in BUCKETS:
                    self._tokens += decision.cost
                    break

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        yield from self._known_to_dashboards()
        decisions = CounterMetricFamily("extauthz_decisions", "Answered checks.", labels=["dialect", "decision"])
        for (dialect, reason), count in self._decisions.items():
            decisions.add_metric([dialect, reason.value], count)
        yield decisions
        durations = HistogramMetricFamily(
            "extauthz_decision_duration_seconds", "From the arrival of a check to its answer.", labels=["dialect"]
        )
        for dialect, counts in self._durations.items():
            bounds = [*map(str, DURATION_BUCKETS), "+Inf"]
            buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            durations.add_metric([dialect], buckets, self._seconds[dialect])
        yield durations
        hits = CounterMetricFamily("extauthz_api_key_cache_hits", "Keys found, by layer.", labels=["layer"])
        for layer in _LAYERS:
            hits.add_metric([layer], self.reads["api_key", layer])
        yield hits
        yield _counter("extauthz_api_key_cache_misses", "Keys not found in any layer.", self.reads["api_key", None])

    def _known_to_dashboards(self) -> Iterator[Metric]:
        """Five of the six that other limiters have, too."""
        of_limits = {reason: self._count(reason) for reason in _TOO_MANY}
        found = sum(self.reads["tenant_quota", layer] for layer in _LAYERS)
        yield _counter("rate_limiter_rejections", "Requests refused with 429.", sum(of_limits.values()))
        yield _counter(
            "daily_quota_hits", "Requests refused by the daily quota.", of_limits[Reason.DAILY_QUOTA_EXCEEDED]
        )
        yield _counter("token_bucket_consumed", "Tokens taken from buckets.", self._tokens)
        yield _counter("tenant_quota_cache_hits", "Limits found in a cache.", found)
        yield _counter("tenant_quota_cache_misses", "Limits found in no cache.", self.reads["tenant_quota", None])

    def _count(self, reason: Reason) -> int:
        return sum(self._decisions[dialect, reason] for dialect in self._dialects)


def _counter(name: str, documentation: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, documentation, value=value)
