"""Metrics of the service as a whole, from the one process that answers `/metrics`: workers, build, database figures."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import version
from time import monotonic

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.core.figures import Figures
from extauthz.core.ports import Store
from extauthz.telemetry.checks import counter
from extauthz.telemetry.logs import LogDrops

FIGURES_MAX_AGE_SECONDS = 600.0  # after which what the database said is no longer told
NAME_LONGEST = 100  # characters of an organization's name in a label
UNKNOWN = "unknown"  # a commit that is not told; a pepper that the settings do not have


class ServiceMetrics(Collector):
    """What each field says is told when it is read."""

    def __init__(self, *, commit: str, peppers: Collection[str], supervises: bool = False) -> None:
        """`peppers` are the ids in the settings. `supervises`: this process is one beside its workers."""
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        if supervises:
            ProcessCollector(registry=self.registry)
            self.registry.register(LogDrops())
        self.alive, self.silent, self.down, self.restarts = 1, 0, 0, 0
        self.certificates: dict[Store, float] = {}
        self._build = version("extauthz"), commit or UNKNOWN
        self._peppers = peppers
        self._figures: Figures | None = None
        self._read_at = 0.0
        self._audit_rows = 0

    def workers(self, *, alive: int, silent: int, down: int) -> None:
        """How many workers answer their supervisor, do not, and are not there."""
        self.alive, self.silent, self.down = alive, silent, down

    def read(self, figures: Figures) -> None:
        """The database was read."""
        self._figures, self._read_at = figures, monotonic()
        self._audit_rows = max(self._audit_rows, figures.audit_rows)

    def collect(self) -> Iterable[Metric]:
        """The metrics now."""
        build = GaugeMetricFamily("extauthz_build_info", "What runs.", labels=["version", "commit"])
        build.add_metric(self._build, 1)
        yield build
        workers = GaugeMetricFamily("extauthz_workers", "Workers by what is known of them.", labels=["state"])
        for state, count in (("alive", self.alive), ("silent", self.silent), ("down", self.down)):
            workers.add_metric([state], count)
        yield workers
        yield counter("extauthz_worker_restarts", "Workers that ended and were started again.", self.restarts)
        ends = GaugeMetricFamily(
            "extauthz_store_certificate_expiry_seconds",
            "Unix seconds at which a store's TLS certificate ends.",
            labels=["store"],
        )
        for store, end in self.certificates.items():
            ends.add_metric([store], end)
        yield ends
        yield from self._of_the_database()

    def _of_the_database(self) -> Iterator[Metric]:
        figures = self._figures if monotonic() - self._read_at < FIGURES_MAX_AGE_SECONDS else None
        expiring = GaugeMetricFamily("extauthz_keys_expiring", "Usable keys that end soon.", labels=["within"])
        peppers = GaugeMetricFamily("extauthz_pepper_keys", "Usable keys by their pepper.", labels=["pepper"])
        backlog = GaugeMetricFamily("extauthz_webhook_backlog", "Quota events that wait for the webhook.")
        oldest = GaugeMetricFamily("extauthz_webhook_oldest_age_seconds", "Age of the oldest of them.")
        names = GaugeMetricFamily(
            "extauthz_tenant_info", "Names of organizations with series of their own.", labels=["organization", "name"]
        )
        if figures is not None:
            expiring.add_metric(["7d"], figures.expiring_7d)
            expiring.add_metric(["30d"], figures.expiring_30d)
            for pepper, keys in self._by_pepper(figures.by_pepper).items():
                peppers.add_metric([pepper], keys)
            if figures.backlog is not None:
                backlog.add_metric([], figures.backlog)
                oldest.add_metric([], figures.oldest_seconds or 0.0)
            for organization, name in figures.names.items():
                names.add_metric([organization, name[:NAME_LONGEST]], 1)
        yield from (expiring, peppers, backlog, oldest, names)
        yield counter("extauthz_audit_rows", "Rows of the audit log so far.", self._audit_rows)

    def _by_pepper(self, found: Mapping[str, int]) -> dict[str, int]:
        """A database may hold any ids; those that the settings do not have are one."""
        keys = dict.fromkeys((*self._peppers, UNKNOWN), 0)
        for pepper, count in found.items():
            keys[pepper if pepper in keys else UNKNOWN] += count
        return keys
