"""The text of `/metrics` as OpenTelemetry's metrics, sent by OTLP over HTTP. It imports the SDK."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as SentMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from extauthz.telemetry.otlp import SCOPE, OtlpSession, describe
from extauthz.telemetry.sender import Receiver

_CUMULATIVE = AggregationTemporality.CUMULATIVE
Labels = tuple[tuple[str, str], ...]


class MetricReceiver(Receiver[bytes]):
    """The endpoint for metrics at `url`; `headers` and `attributes` as for SpanReceiver."""

    def __init__(self, url: str, headers: Mapping[str, str], attributes: Mapping[str, str]) -> None:
        self._session = OtlpSession()
        self._exporter = OTLPMetricExporter(endpoint=url, headers=dict(headers), session=self._session)
        self._resource = Resource(describe(attributes))
        self._scope = InstrumentationScope(*SCOPE)
        self._since = time.time_ns()

    def send(self, items: Sequence[bytes]) -> str:
        """Sends the last of some texts; why that failed, or an empty text."""
        families = text_string_to_metric_families(items[-1].decode())
        metrics = [_metric(family, self._since, time.time_ns()) for family in families if family.samples]
        scoped = ScopeMetrics(self._scope, metrics, "")
        self._session.failure = ""
        result = self._exporter.export(MetricsData([ResourceMetrics(self._resource, [scoped], "")]))
        return self._session.failure or ("" if result is MetricExportResult.SUCCESS else "not sent")

    def abort(self) -> None:
        """Ends the waits between two attempts."""
        self._exporter.shutdown()


def _metric(family: Metric, since: int, now: int) -> SentMetric:
    """One metric under the name that a scraper sees."""
    data: Histogram | Sum | Gauge
    if family.type == "histogram":
        data = Histogram(_distributions(family, since, now), _CUMULATIVE)
    else:
        counted = family.type == "counter"
        points = [NumberDataPoint(sample.labels, since, now, sample.value) for sample in family.samples]
        data = Sum(points, _CUMULATIVE, True) if counted else Gauge(points)
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return SentMetric(name, family.documentation, "s" if family.name.endswith("_seconds") else "", data)


def _distributions(family: Metric, since: int, now: int) -> list[HistogramDataPoint]:
    """A point for each set of labels. A scraper's buckets count what is below their bounds, OTLP's what is between."""
    buckets: defaultdict[Labels, dict[float, float]] = defaultdict(dict)
    sums: dict[Labels, float] = {}
    for sample in family.samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            buckets[labels][float(sample.labels["le"])] = sample.value
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    return [
        HistogramDataPoint(
            dict(labels),
            since,
            now,
            count=int(below[inf]),
            sum=sums.get(labels, 0.0),
            bucket_counts=_between(sorted(below.items())),
            explicit_bounds=sorted(bound for bound in below if bound != inf),
            min=None,  # type: ignore[arg-type]  # not known, and so not sent
            max=None,  # type: ignore[arg-type]
        )
        for labels, below in buckets.items()
    ]


def _between(below: Iterable[tuple[float, float]]) -> list[int]:
    counts, before = [], 0
    for _, count in below:
        counts.append(int(count) - before)
        before = int(count)
    return counts
