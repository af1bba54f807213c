"""The metrics of one process, and the observer that counts them."""

from collections.abc import Iterable, Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.limit_kinds import REASONS
from extauthz.core.ports import REDIS, Store
from extauthz.core.reason import Reason
from extauthz.core.usage import QuotaEvent
from extauthz.telemetry.checks import CheckCounts
from extauthz.telemetry.distribution import Distribution, histogram
from extauthz.telemetry.drops import Drops
from extauthz.telemetry.logs import LogDrops
from extauthz.telemetry.loop_lag import LoopLag
from extauthz.telemetry.samples import Sample, take
from extauthz.telemetry.stores import STORES, StoreMetrics
from extauthz.telemetry.tenants import TenantCounts
from extauthz.telemetry.usage import UsageMetrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no hint there


BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
ARRIVAL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ERRORS = (
    "timeout",
    "connection",
    "busy",
    "deadline",
    "corrupt",
)  # that are there from the start; others come with time
NO_EVICTION = "CONFIG SET maxmemory-policy noeviction; else usage and fences are dropped while memory is short"

_BY_LIMITS = (Reason.ALLOW, Reason.COST_EXCEEDS_LIMIT, *sorted(REASONS))


class Metrics(Collector):
    """Counts what it is told, and says what must be said once in the log. An `Observer` and a `CheckObserver`."""

    def __init__(self, dialects: Sequence[str], *, tenants: int = 0) -> None:
        """`dialects` are the names of those that checks may come in; so many organizations have series of their own."""
        self.registry = registry = CollectorRegistry(auto_describe=False)
        self.checks = CheckCounts(dialects)
        self.stores, self.usage, self.drops, self.lag = StoreMetrics(), UsageMetrics(), Drops(), LoopLag()
        self.tenants = TenantCounts(tenants)
        self.decided, self.cache_read, self.tally = self.checks.decided, self.checks.cache_read, self.checks.tally
        self._batches, self._arrivals = Distribution(BATCH_BUCKETS), Distribution(ARRIVAL_BUCKETS)
        for collector in (self.checks, self.stores, self.usage, self.drops, self.lag, self.tenants, LogDrops(), self):
            registry.register(collector)
        ProcessCollector(registry=registry)
        self._log = structlog.get_logger()
        self._away: set[Store] = set()
        self._redis_down = Counter("redis_down_events", "Changes of Redis from up to down.", registry=registry)
        self._errors = Counter(
            "extauthz_store_errors", "Calls to a store that failed.", ["store", "reason"], registry=registry
        )
        for store in STORES:
            for reason in ERRORS:
                self._errors.labels(store, reason)
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
        units = Counter(
            "extauthz_lease_units",
            "Units that were taken ahead of requests, and given back.",
            ["what"],
            registry=registry,
        )
        calls = Counter("extauthz_leases", "Leases begun, renewed and ended.", ["operation"], registry=registry)
        self._lease_units = {what: units.labels(what) for what in ("granted", "returned")}
        self._lease_calls = {operation: calls.labels(operation) for operation in ("take", "more", "close")}
        self.usage_trouble = ""

    def collect(self) -> Iterable[Metric]:
        """The histograms that are kept here."""
        yield histogram(
            "extauthz_limit_batch_size", "Checks whose limits were asked in one call of Redis.", self._batches
        )
        yield histogram(
            "extauthz_revocation_lag_seconds", "From a change in PostgreSQL to its arrival here.", self._arrivals
        )

    def messages_flow(self, flows: bool) -> None:
        """Says once when messages of changes begin to arrive, and when they no longer do."""
        if flows != self._messages_flow:
            self._messages_flow = flows
            self._feed_down.set(0 if flows else 1)
            if flows:
                self._log.info("change_messages_arrive")
            else:
                self._log.warning("change_messages_missing")

    def redis_says(self, epoch_known: bool, evicting: str) -> None:
        """Says once what is wrong with what Redis says of itself, and when it is right again.

        `evicting`: its maxmemory-policy where that drops our keys when memory is short.
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
                self._log.info("redis_epoch_known")
            else:
                self._log.warning("redis_epoch_unknown", missing="+info")

    def store_failed(self, store: Store, reason: str) -> None:
        """Counts a call to a store that failed."""
        self._errors.labels(store, reason).inc()

    def record_corrupt(self, error: StoreCorrupt) -> None:
        """Counts and names a corrupt record."""
        self._errors.labels(error.store, "corrupt").inc()
        self._log.warning("corrupt_record", store=error.store, what=error.what)

    def shadowed(self, reason: Reason) -> None:
        """Counts what limits in shadow would have decided."""
        self._shadow[reason].inc()

    def quota_threshold(self, event: QuotaEvent) -> None:
        """Counts and names an organization that has used so much of a quota."""
        self.usage.thresholds[event.quota, event.threshold] += 1
        self._log.info(
            "quota_threshold_passed",
            organization_id=event.tenant_id,
            quota=event.quota,
            threshold=event.threshold,
            used=event.used,
            limit=event.limit,
        )

    def rejections_written(self, rows: int) -> None:
        """Counts rows of refusals that were written down."""
        self.usage.rejections_written += rows

    def rejections_lost(self, refusals: int) -> None:
        """Counts refusals that there was no room for."""
        self.usage.rejections_lost += refusals

    def limit_batch(self, checks: int) -> None:
        """Counts checks whose limits are asked in one call."""
        self._batches.observe(checks)

    def leased(self, operation: str, units: int) -> None:
        """Counts units that were taken ahead, or given back."""
        self._lease_units["returned" if operation == "close" else "granted"].inc(units)
        self._lease_calls[operation].inc()

    def change_arrived(self, seconds: float) -> None:
        """Measures how long a change took to arrive."""
        self._arrivals.observe(max(seconds, 0.0))

    def usage_saved(self, seconds: float, *, complete: bool) -> None:
        """Measures how long it took to write down what was counted."""
        self.usage.saved(seconds, complete=complete)

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        """Says once that a store went away or came back."""
        self.stores.changed(store, up=up)
        if up:
            say = self._log.warning if store in self._away else self._log.info
            say("store_up", store=store)
            self._away.discard(store)
            return
        self._away.add(store)
        self._log.warning("store_away", store=store, reason=reason)
        if store == REDIS:
            self._redis_down.inc()

    def store_unfit(self, error: StoreUnavailable) -> None:
        """Says what is wrong with a store that is away, in its own words where there are some."""
        words = {"said": error.said, "remedy": error.remedy} if error.said else {}
        self._log.warning("store_unfit", store=error.store, reason=error.reason, **words)

    def usage_kept(self, error: StoreUnavailable | None) -> None:
        """Says once that usage cannot be written down, and once that it is again."""
        self.usage_trouble = "" if error is None else error.detail
        self.usage.unsaved = error is not None
        if error is None:
            self._log.warning("usage_saved_again")
        else:
            words = {"said": error.said, "remedy": error.remedy} if error.said else {}
            self._log.warning("usage_not_saved", store=error.store, reason=error.reason, **words)

    def samples(self) -> list[Sample]:
        """All values now, for another process to add up."""
        return take(self.registry)
