"""The text that `/metrics` answers with, in the format that the scraper asks for."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from extauthz.telemetry.distribution import exemplar
from extauthz.telemetry.samples import Sample, merge

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
UNITS = ("seconds", "bytes", "ratio")

_OPENMETRICS_TYPE, _TEXT_TYPE = "application/openmetrics-text", "text/plain"


class Exposition:
    """Samples under the names, types and descriptions of the metrics in some registries."""

    def __init__(self, *registries: CollectorRegistry) -> None:
        self._registries = registries
        self._described: dict[str, Metric] = {}

    def describe(self, parts: Iterable[Sequence[Sample]]) -> None:
        """Asks the registries for what these samples are called, unless that is known.

        After it `render` of the same samples may be called in another thread, while the registries go on counting.
        """
        if not self._described or not self._described.keys() >= {sample.family for part in parts for sample in part}:
            self._described = {metric.name: metric for own in self._registries for metric in own.collect()}

    def render(self, parts: Iterable[Sequence[Sample]], accept: str = "") -> tuple[bytes, str]:
        """The body and its content type: the samples of several processes as one. `accept` is the scraper's header."""
        samples = merge(parts)
        self.describe([samples])
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Merged(self._described.values(), samples))
        if prefers_openmetrics(accept):
            return generate_openmetrics(registry), OPENMETRICS  # type: ignore[no-untyped-call]  # it has no hint
        return generate_latest(registry), TEXT


def prefers_openmetrics(accept: str) -> bool:
    """Whether an `Accept` header ranks OpenMetrics at least as high as the older text format (RFC 9110 §12.5.1)."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media_type, *parameters = (word.strip().lower() for word in part.split(";"))
        weights[media_type] = max(weights.get(media_type, 0.0), _weight(parameters))
    wanted = weights.get(_OPENMETRICS_TYPE, 0.0)
    return wanted > 0 and wanted >= weights.get(_TEXT_TYPE, 0.0)


def _weight(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


class _Merged(Collector):
    """Samples by metric, in the order in which those are described."""

    def __init__(self, described: Iterable[Metric], samples: Iterable[Sample]) -> None:
        self._metrics = {metric.name: _empty(metric) for metric in described}
        for family, name, labels, value, seen in samples:
            self._metrics[family].add_sample(name, dict(labels), value, exemplar=seen and exemplar(seen))

    def collect(self) -> Iterable[Metric]:
        return self._metrics.values()


def _empty(metric: Metric) -> Metric:
    unit = next((unit for unit in UNITS if metric.name.endswith(f"_{unit}")), "")
    return Metric(metric.name, metric.documentation, metric.type, unit)
