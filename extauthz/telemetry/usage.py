"""What is written down behind the checks: charges, refusals, thresholds of quotas."""

from collections.abc import Iterable
from time import monotonic

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.core.limit_kinds import QUOTAS
from extauthz.core.usage import THRESHOLDS
from extauthz.telemetry.checks import counter
from extauthz.telemetry.distribution import Distribution, histogram

SAVE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class UsageMetrics(Collector):
    """Plain numbers, which become metrics when they are read."""

    def __init__(self) -> None:
        self.unsaved = False
        self.rejections_written = self.rejections_lost = 0
        self.thresholds = {(quota.name, percent): 0 for quota in QUOTAS for percent in THRESHOLDS}
        self._saves = Distribution(SAVE_BUCKETS)
        self._saved_until = monotonic()  # what was charged before is written down, so far as this process sees to it

    def saved(self, seconds: float, *, complete: bool) -> None:
        """Charges were written down, which took so long; `complete`: all that were made before."""
        self._saves.observe(seconds)
        if complete:
            self._saved_until = monotonic() - seconds

    def collect(self) -> Iterable[Metric]:
        """The metrics now."""
        thresholds = CounterMetricFamily(
            "extauthz_quota_thresholds",
            "Organizations that have used so many percent of a quota.",
            labels=["quota", "threshold"],
        )
        for (quota, percent), count in self.thresholds.items():
            thresholds.add_metric([quota, str(percent)], count)
        yield thresholds
        yield histogram("extauthz_usage_save_seconds", "Writing down what was charged.", self._saves)
        yield GaugeMetricFamily(
            "extauthz_usage_flush_lag_seconds",
            "Age of the oldest charge that may not be written down.",
            value=monotonic() - self._saved_until,
        )
        yield GaugeMetricFamily(
            "extauthz_usage_unsaved",
            "1 while a store refuses to take usage, which waits.",
            value=int(self.unsaved),
        )
        yield counter(
            "extauthz_rejections_written", "Rows of refusals that were written down.", self.rejections_written
        )
        yield counter("extauthz_rejections_lost", "Refusals that there was no room to count.", self.rejections_lost)
