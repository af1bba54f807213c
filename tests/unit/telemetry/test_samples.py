"""Samples of several processes become one exposition, in the format that the scraper asks for."""

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow
from extauthz.core.trace import Trace
from extauthz.telemetry.exposition import OPENMETRICS, TEXT, Exposition, prefers_openmetrics
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.samples import GAUGES, Sample, counted, merge, take
from extauthz.telemetry.service import ServiceMetrics

TRACE = "0af7651916cd43dd8448eb211c80319c"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def parse_openmetrics(text: str) -> list[Metric]:
    return list(parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # it has no hint


def gauge(family: str, value: float) -> Sample:
    return Sample(family, family, (), value)


def test_every_gauge_has_an_aggregation() -> None:
    """Every gauge of a service is in the table, because flags of two workers must not be added up."""
    service = ServiceMetrics(commit="", peppers=["p1"], supervises=True)
    registries = Metrics(["envoy"]).registry, service.registry
    families = {metric.name: metric.type for registry in registries for metric in registry.collect()}
    assert set(GAUGES) == {name for name, kind in families.items() if kind == "gauge"}


@pytest.mark.parametrize(
    ("family", "values", "together"),
    [
        ("extauthz_degraded", (0, 1, 0), 1),
        ("extauthz_pool_waiting", (2, 3, 0), 5),
        ("extauthz_usage_flush_lag_seconds", (40, 3, 12), 3),
        ("extauthz_store_clock_skew_seconds", (-3, 0.5, 2), -3),
        ("process_start_time_seconds", (300, 100, 200), 100),
        ("process_resident_memory_bytes", (300, 100, 200), 600),
    ],
)
def test_gauges_of_several_processes(family: str, values: tuple[float, ...], together: float) -> None:
    """The worst value or the sum, as the metric means; one process alone is unchanged, also below 0 or above."""
    parts = [[gauge(family, value)] for value in values]
    assert merge(parts) == [gauge(family, together)]
    assert merge(parts[:1]) == parts[0]


def test_counters_outlive_their_process() -> None:
    """Counters and histograms stay when a worker ends, gauges do not."""
    registry = CollectorRegistry()
    counter = Counter("redis_down_events", "What.", registry=registry)
    counter.inc(3)
    samples = [*take(registry), gauge("extauthz_degraded", 1)]
    assert [(sample.name, sample.value) for sample in counted(samples)] == [("redis_down_events_total", 3)]


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", True),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.9", True),
        ("text/plain, application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=0, text/plain;q=0.1", False),
        ("application/openmetrics-text;q=nonsense", False),
        ("text/plain;version=0.0.4", False),
        ("*/*", False),
        ("", False),
        (",;,=;q=", False),
    ],
)
def test_the_scraper_chooses_the_format(accept: str, openmetrics: bool) -> None:
    """OpenMetrics where it is ranked at least as high as the older format, that for everything else."""
    assert prefers_openmetrics(accept) is openmetrics
    body, content_type = Exposition(Metrics(["envoy"]).registry).render([], accept)
    assert content_type == (OPENMETRICS if openmetrics else TEXT)
    assert body.endswith(b"# EOF\n") is openmetrics


def test_both_formats_say_the_same() -> None:
    """Names, labels and values are the same, and both are read by the client library's own parsers."""
    metrics = Metrics(["envoy"])
    metrics.decided(CheckResult("envoy", None, 0.0, Allow(), seconds=0.003, identified_after=0.001))
    exposition, samples = Exposition(metrics.registry), metrics.samples()
    text, _ = exposition.render([samples])
    openmetrics, _ = exposition.render([samples], PROMETHEUS)
    as_text, as_openmetrics = (
        {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}
        for families in (parse_text(text.decode()), parse_openmetrics(openmetrics.decode()))
    )
    assert as_text == as_openmetrics
    assert as_text["extauthz_decisions_total", ("decision", "allow"), ("dialect", "envoy")] == 1
    units = {family.name: family.unit for family in parse_openmetrics(openmetrics.decode())}
    assert units["extauthz_decision_duration_seconds"] == "seconds"
    assert units["process_resident_memory_bytes"] == "bytes"


def test_exemplars_are_the_last_trace_of_each_bucket() -> None:
    """Only a check whose span is recorded is one; of several workers the later; the older format has none."""
    workers = [Metrics(["envoy"]), Metrics(["envoy"])]
    for worker, at, trace in ((0, 100.0, "a" * 32), (1, 200.0, TRACE), (0, 150.0, "c" * 32), (1, 300.0, "")):
        result = CheckResult("envoy", None, at, Allow(), seconds=0.003, trace=Trace(trace, "", "") if trace else None)
        workers[worker].decided(result)
    exposition, parts = Exposition(workers[0].registry), [worker.samples() for worker in workers]
    families = parse_openmetrics(exposition.render(parts, PROMETHEUS)[0].decode())
    exemplars = [sample for family in families for sample in family.samples if sample.exemplar is not None]
    (found,) = exemplars
    assert (found.name, found.labels["le"], found.value) == ("extauthz_decision_duration_seconds_bucket", "0.005", 4)
    assert found.exemplar is not None
    assert (found.exemplar.labels, found.exemplar.value) == ({"trace_id": TRACE}, 0.003)
    assert float(found.exemplar.timestamp or 0) == pytest.approx(200.003)
    assert TRACE.encode() not in exposition.render(parts)[0]


def test_a_label_may_hold_anything() -> None:
    """Quotes, backslashes, line ends and text beyond ASCII come back as they were, in both formats."""
    registry, name = CollectorRegistry(), 'a"b\\c\nd\te ü 数 \u2028'

    class Named:
        def collect(self) -> list[GaugeMetricFamily]:
            family = GaugeMetricFamily("extauthz_tenant_info", "Who.", labels=["organization", "name"])
            family.add_metric(["1", name], 1)
            return [family]

    registry.register(Named())
    exposition = Exposition(registry)
    for accept, parse in (("", parse_text), (PROMETHEUS, parse_openmetrics)):
        (family,) = parse(exposition.render([take(registry)], accept)[0].decode())
        assert family.samples[0].labels["name"] == name
