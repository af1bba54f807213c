"""The metrics of the contract, and the observer that counts them."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.core.balance import REFUSED_BY
from extauthz.core.check_result import CheckResult
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS, Cache, Layer, Store
from extauthz.core.reason import Reason
from extauthz.core.usage import QUOTAS, THRESHOLDS, QuotaEvent
from extauthz.telemetry.checks import CheckCounts
from extauthz.telemetry.logs import LogDrops

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no hint there


SAVE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_BY_LIMITS = (Reason.ALLOW, Reason.COST_EXCEEDS_LIMIT, *sorted(set(REFUSED_BY.values())))


NO_EVICTION = "CONFIG SET maxmemory-policy noeviction; else usage and fences are dropped while memory is short"


class Sample(NamedTuple):
    """One line of an exposition, as a worker hands it over."""

    family: str
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Metrics:
    """Counts what it is told, and says what must be said once in the log. An `Observer` and a
    `CheckObserver`.
    """

    def __init__(self, dialects: Sequence[str]) -> None:
        """`dialects` are the names of those that checks may come in."""
        self.registry = registry = CollectorRegistry(auto_describe=False)
        self._log = structlog.get_logger()
        self._away: set[Store] = set()
        self.checks = CheckCounts(dialects)
        registry.register(self.checks)
        registry.register(LogDrops())
        self._redis_down = Counter("redis_down_events", "Changes of Redis from up to down.", registry=registry)
        self._errors = Counter(
            "extauthz_store_errors", "Calls to a store that failed.", ["store", "reason"], registry=registry
        )
        self._degraded = Gauge("extauthz_degraded", "1 while a store is away.", ["store"], registry=registry)
        self._feed_down = Gauge(
            "extauthz_change_feed_down", "1 while PostgreSQL's messages of changes do not arrive.", registry=registry
        )
        self._feed_down.set(1)
        self._messages_flow = False
        self._epoch_unknown = Gauge(
            "extauthz_epoch_unknown", "1 while Redis does not say whose memory it is.", registry=registry
        )
        self._says_epoch = True
        self.redis_evicting = ""
        shadow = Counter(
            "extauthz_shadow_decisions", "What limits in shadow would have decided.", ["decision"], registry=registry
        )
        self._shadow = {reason: shadow.labels(reason.value) for reason in _BY_LIMITS}
        thresholds = Counter(
            "extauthz_quota_thresholds",
            "Organizations that have used so many percent of a quota.",
            ["quota", "threshold"],
            registry=registry,
        )
        self._thresholds = {
            (quota, percent): thresholds.labels(quota, str(percent)) for quota in QUOTAS for percent in THRESHOLDS
        }
        self._usage_saved = Histogram(
            "extauthz_usage_save_seconds", "Writing down what was counted.", buckets=SAVE_BUCKETS, registry=registry
        )
        self._rejections = Counter(
            "extauthz_rejections_written", "Rows of refusals that were written down.", registry=registry
        )
        self._unsaved = Gauge(
            "extauthz_usage_unsaved", "1 while a store refuses to take usage, which waits.", registry=registry
        )
        self.usage_trouble = ""
        for store in (POSTGRESQL, REDIS):
            self._degraded.labels(store).set(1)  # until it was seen

    def decided(self, result: CheckResult) -> None:
        """Counts an answered check."""
        self.checks.decided(result.dialect, result.decision, result.seconds)

    def cache_read(self, cache: Cache, layer: Layer | None) -> None:
        """Counts where a record was found."""
        self.checks.reads[cache, layer] += 1

    def messages_flow(self, flows: bool) -> None:
        """Says once when messages of changes begin to arrive, and when they no longer do."""
        if flows != self._messages_flow:
            self._messages_flow = flows
            self._feed_down.set(0 if flows else 1)
            if flows:
                self._log.info("messages of changes arrive")
            else:
                self._log.warning("messages of changes do not arrive")

    def redis_says(self, epoch_known: bool, evicting: str) -> None:
        """Says once what is wrong with what Redis says of itself, and when it is right again.

        `evicting`: its maxmemory-policy where that drops keys of ours when memory is short.
        """
        self._epoch_known(epoch_known)
        if evicting != self.redis_evicting:
            self.redis_evicting = evicting
            if evicting:
                self._log.warning("redis_evicts", maxmemory_policy=evicting, remedy=NO_EVICTION)
            else:
                self._log.info("redis_no_longer_evicts")

    def _epoch_known(self, known: bool) -> None:
        if known != self._says_epoch:
            self._says_epoch = known
            self._epoch_unknown.set(0 if known else 1)
            if known:
                self._log.info("Redis says whose memory it is")
            else:
                self._log.warning("Redis does not say whose memory it is", missing="+info")

    def store_failed(self, store: Store, reason: str) -> None:
        """Counts a call to a store that failed."""
        self._errors.labels(store, reason).inc()

    def record_corrupt(self, error: StoreCorrupt) -> None:
        """Counts and names a record that makes no sense."""
        self._errors.labels(error.store, "corrupt").inc()
        self._log.warning("a record makes no sense", store=error.store, what=error.what)

    def shadowed(self, reason: Reason) -> None:
        """Counts what limits in shadow would have decided."""
        self._shadow[reason].inc()

    def quota_threshold(self, event: QuotaEvent) -> None:
        """Counts and names an organization that has used so much of a quota."""
        self._thresholds[event.quota, event.threshold].inc()
        self._log.info(
            "quota threshold passed",
            organization_id=event.tenant_id,
            quota=event.quota,
            threshold=event.threshold,
            used=event.used,
            limit=event.limit,
        )

    def rejections_written(self, rows: int) -> None:
        """Counts rows of refusals that were written down."""
        self._rejections.inc(rows)

    def usage_saved(self, seconds: float) -> None:
        """Measures how long it took to write down what was counted."""
        self._usage_saved.observe(seconds)

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        """Says once that a store went away or came back."""
        self._degraded.labels(store).set(0 if up else 1)
        if up:
            say = self._log.warning if store in self._away else self._log.info
            say("store is up", store=store)
            self._away.discard(store)
            return
        self._away.add(store)
        self._log.warning("store is away", store=store, reason=reason)
        if store == REDIS:
            self._redis_down.inc()

    def store_unfit(self, error: StoreUnavailable) -> None:
        """Says what is wrong with a store that is away, in its own words where there are some."""
        words = {"said": error.said, "remedy": error.remedy} if error.said else {}
        self._log.warning("store cannot be used", store=error.store, reason=error.reason, **words)

    def usage_kept(self, error: StoreUnavailable | None) -> None:
        """Says once that usage cannot be written down, and once that it is again."""
        self.usage_trouble = "" if error is None else error.detail
        self._unsaved.set(0 if error is None else 1)
        if error is None:
            self._log.warning("usage is saved again")
        else:
            words = {"said": error.said, "remedy": error.remedy} if error.said else {}
            self._log.warning("usage is not saved", store=error.store, reason=error.reason, **words)

    def samples(self) -> list[Sample]:
        """All values now, for another process to add up."""
        return [
            Sample(metric.name, sample.name, tuple(sorted(sample.labels.items())), sample.value)
            for metric in self.registry.collect()
            for sample in metric.samples
        ]

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return self.sum([self.samples()])

    def sum(self, parts: Iterable[Sequence[Sample]]) -> bytes:
        """The Prometheus text format of several processes' samples, added up."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Sum(self.registry.collect(), added(parts, self._gauges())))
        return generate_latest(registry)

    def counted(self, parts: Iterable[Sequence[Sample]]) -> list[Sample]:
        """What processes that are no more have counted, added up; their gauges ended with them."""
        gauges = self._gauges()
        return [sample for sample in added(parts, gauges) if sample.family not in gauges]

    def _gauges(self) -> frozenset[str]:
        return frozenset(metric.name for metric in self.registry.collect() if metric.type == "gauge")


def added(parts: Iterable[Sequence[Sample]], gauges: Collection[str]) -> list[Sample]:
    """The samples of several processes as one: counters are added up, of a gauge the worst is taken."""
    values: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
    for family, name, labels, value in (sample for part in parts for sample in part):
        before = values.get((family, name, labels), 0.0)
        values[family, name, labels] = max(before, value) if family in gauges else before + value
    return [Sample(*key, value) for key, value in values.items()]


class _Sum(Collector):
    """Samples under the names, types and documentation of our own metrics."""

    def __init__(self, described: Iterable[Metric], samples: Iterable[Sample]) -> None:
        self._metrics = {metric.name: Metric(metric.name, metric.documentation, metric.type) for metric in described}
        for family, name, labels, value in samples:
            self._metrics[family].add_sample(name, dict(labels), value)

    def collect(self) -> Iterable[Metric]:
        return self._metrics.values()
