"""`/metrics` of a real service: what the reference says is there, for all workers, at any time, in either format."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families

from extauthz.telemetry.exposition import OPENMETRICS
from extauthz.telemetry.samples import GAUGES
from tests.servers.office import Office
from tests.servers.raw_http import ask
from tests.servers.serving import PATIENT, question, serving

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"
_CELLS = re.compile(r"(?<!\\)\|")
_WORDS = {"sum": "_sum", "worst": "max", "least": "min", "soonest": "min", "farthest from 0": "_farther"}


class Row(NamedTuple):
    """A metric as the reference has it."""

    kind: str
    labels: frozenset[str]
    workers: str


def documented() -> dict[str, Row]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    rows: dict[str, Row] = {}
    for line in lines:
        _, name, kind, labels, workers, *_ = (cell.strip() for cell in _CELLS.split(line))
        names = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", labels))  # values of a label stand in parentheses
        rows[name.strip("`")] = Row(kind, frozenset(names), workers)
    assert len(rows) == len(lines)
    return rows


def exposed(families: Iterable[Metric]) -> dict[str, Metric]:
    """By the names that a query has."""
    return {f"{family.name}_total" if family.type == "counter" else family.name: family for family in families}


async def test_the_reference_is_what_is_exposed(database: str, redis_url: str) -> None:
    """The same names, types and labels, no more and no less, and what several workers make together."""
    more = {"EXTAUTHZ_TENANT_METRICS": "5"}
    async with serving(database, redis_url, **PATIENT, **more) as service:
        answer = await ask(service.ports["admin"], b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
    families = exposed(text_string_to_metric_families(answer.body.decode()))
    rows = documented()
    assert families.keys() == rows.keys()
    for name, family in families.items():
        assert family.type == rows[name].kind, name
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == rows[name].labels, name
        if family.type == "gauge":
            assert GAUGES[family.name].__name__ == _WORDS[rows[name].workers], name


async def test_a_scraper_that_asks_for_openmetrics_gets_it(database: str, redis_url: str, office: Office) -> None:
    """As Prometheus asks; every line is one of OpenMetrics."""
    _, key = await office.new_key((await office.tenants.create_organization("acme")).name)
    accept = b"Accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n"
    async with serving(database, redis_url, **PATIENT) as service:
        await ask(service.ports["envoy"], question("envoy", key=key))
        answer = await ask(service.ports["admin"], b"GET /metrics HTTP/1.1\r\nHost: here\r\n" + accept + b"\r\n")
    assert answer["content-type"] == OPENMETRICS
    families = parser.text_string_to_metric_families(answer.body.decode())  # type: ignore[no-untyped-call]
    assert exposed(families).keys() == documented().keys()
