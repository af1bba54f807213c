"""`/metrics` of a real service agrees with the reference, for all workers, at any time, in either format."""

import asyncio
import os
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families

from extauthz.backends.postgres.pool import MAX_CONCURRENT_LOOKUPS
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis
from extauthz.telemetry.exposition import OPENMETRICS
from extauthz.telemetry.samples import GAUGES
from extauthz.telemetry.stores import STORES
from tests.servers.fixtures import paused
from tests.servers.forking import family
from tests.servers.management_client import ManagementClient
from tests.servers.process import listening, settings
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
    for name, metric in families.items():
        assert metric.type == rows[name].kind, name
        for sample in metric.samples:
            assert sample.labels.keys() - {"le"} == rows[name].labels, name
        if metric.type == "gauge":
            assert GAUGES[metric.name].__name__ == _WORDS[rows[name].workers], name


async def test_a_scraper_that_asks_for_openmetrics_gets_it(
    database: str, redis_url: str, operator: ManagementClient
) -> None:
    """As Prometheus asks; every line is one of OpenMetrics."""
    _, key = await operator.new_key((await operator.tenants.create_organization("acme")).name)
    accept = b"Accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n"
    async with serving(database, redis_url, **PATIENT) as service:
        await ask(service.ports["envoy"], question("envoy", key=key))
        answer = await ask(service.ports["admin"], b"GET /metrics HTTP/1.1\r\nHost: here\r\n" + accept + b"\r\n")
    assert answer["content-type"] == OPENMETRICS
    families = parser.text_string_to_metric_families(answer.body.decode())  # type: ignore[no-untyped-call]
    assert exposed(families).keys() == documented().keys()


def allowed(metrics: dict[str, float], organization: str) -> float:
    """The allowed checks of an organization."""
    return metrics.get(f'extauthz_tenant_decisions_total{{decision="allow",organization="{organization}"}}', 0)


def workers(metrics: dict[str, float]) -> list[float]:
    return [metrics[f'extauthz_workers{{state="{state}"}}'] for state in ("alive", "silent", "down")]


async def test_one_answer_for_all_workers(database: str, redis_url: str, operator: ManagementClient) -> None:
    """Ten scrapes at once agree, and so does one right after a worker was killed; sums go on where they were.

    All workers give the same organization the one place that there is.
    """
    first = await operator.tenants.create_organization('"first"\\')
    keys = [(await operator.new_key(name))[1] for name in (first.name, "second")]
    given = settings(database, redis_url) | PATIENT | {"EXTAUTHZ_TENANT_METRICS": "1", "EXTAUTHZ_COMMIT": "0123abc"}
    async with listening(given, "--workers", "2") as service:
        await service.until(lambda report: report["workers"] == "ok" and report["status"] == "ready")
        assert (await service.check(keys[0])).decision == "allow"
        for _ in range(2):  # the first one assigns the slot, the next one notifies all workers
            assert allowed(await service.metrics(), first.id) == 1
        answers = await asyncio.gather(*(service.check(key) for key in keys * 10))
        assert {answer.decision for answer in answers} == {"allow"}
        for metrics in await asyncio.gather(*(service.metrics() for _ in range(10))):
            assert (allowed(metrics, first.id), allowed(metrics, "other")) == (11, 10)
            assert (workers(metrics), metrics["extauthz_worker_restarts_total"]) == ([2, 0, 0], 0)
        assert [name for name in metrics if name.startswith('extauthz_build_info{commit="0123abc"')]

        os.kill(family(service.process.pid)[1], signal.SIGKILL)
        metrics = await service.metrics()
        assert (allowed(metrics, first.id), allowed(metrics, "other")) == (11, 10)
        assert sum(workers(metrics)) == 2
        await service.logged("worker_restarted")
        await service.until(lambda report: report["workers"] == "ok")
        await asyncio.gather(*(service.check(key) for key in keys * 10))
        metrics = await service.metrics()
        assert (allowed(metrics, first.id), allowed(metrics, "other")) == (21, 20)
        assert (workers(metrics), metrics["extauthz_worker_restarts_total"]) == ([2, 0, 0], 1)
        name = f'extauthz_tenant_info{{name="\\"first\\"\\\\",organization="{first.id}"}}'
        async with asyncio.timeout(30):
            while name not in await service.metrics():  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)


async def test_a_worker_that_hangs_is_left_out(database: str, redis_url: str) -> None:
    """It is reported as silent, with its counts until then."""
    async with listening(settings(database, redis_url) | PATIENT, "--workers", "2") as service:
        await service.until(lambda report: report["workers"] == "ok" and report["status"] == "ready")
        await asyncio.gather(*(service.check() for _ in range(20)))
        refused = 'extauthz_decisions_total{decision="no_credentials",dialect="envoy"}'
        assert (await service.metrics())[refused] == 20
        hanging = family(service.process.pid)[1]
        os.kill(hanging, signal.SIGSTOP)
        metrics = await service.metrics()
        os.kill(hanging, signal.SIGCONT)
        assert (workers(metrics), metrics[refused]) == ([1, 1, 0], 20)


async def test_a_scrape_waits_for_no_store(
    database: str, redis_url: str, operator: ManagementClient, postgres_server: Postgres, redis_server: Redis
) -> None:
    """While both hang, the answer has what is in memory, and since when they are away."""
    _, key = await operator.new_key("acme")
    async with serving(database, redis_url, EXTAUTHZ_TENANT_METRICS="1") as service:
        await service.scraped_until(lambda found: "extauthz_webhook_backlog" not in found)
        await ask(service.ports["envoy"], question("envoy", key=key))
        with paused(postgres_server), paused(redis_server):
            metrics = await service.scraped_until(
                lambda found: all(found[f'extauthz_circuit_breaker_open{{store="{store}"}}'] for store in STORES)
            )
            later = await service.scraped()
        for store in STORES:
            assert metrics[f'extauthz_degraded{{store="{store}"}}'] == 1
            away = f'extauthz_degraded_seconds_total{{store="{store}"}}'
            assert later[away] > metrics[away] > 0
            assert metrics[f'extauthz_store_errors_total{{reason="timeout",store="{store}"}}'] >= 0
        back = await service.scraped_until(
            lambda found: not any(found[f'extauthz_degraded{{store="{store}"}}'] for store in STORES)
        )
        assert not any(back[f'extauthz_circuit_breaker_open{{store="{store}"}}'] for store in STORES)


async def test_checks_fill_what_dashboards_show(database: str, redis_url: str, operator: ManagementClient) -> None:
    """Stages, ages, batches, operations, connections, the clock of each store."""
    _, key = await operator.new_key("acme")
    async with serving(database, redis_url, **PATIENT) as service:
        for _ in range(3):
            assert (await ask(service.ports["nginx"], question("nginx", key=key))).decision == "allow"
        metrics = await service.scraped_until(lambda found: found["extauthz_event_loop_lag_seconds_count"] > 0)
    for stage in ("identify", "limits"):
        assert metrics[f'extauthz_stage_duration_seconds_count{{stage="{stage}"}}'] == 3
    for cache in ("api_key", "tenant_quota"):
        assert metrics[f'extauthz_record_age_seconds_count{{cache="{cache}"}}'] >= 3
    assert metrics["extauthz_limit_batch_size_sum"] >= 3
    for store in STORES:
        assert metrics[f'extauthz_store_operations_total{{store="{store}"}}'] > 0
        assert abs(metrics[f'extauthz_store_clock_skew_seconds{{store="{store}"}}']) < 1
    assert metrics['extauthz_pool_connections{state="idle"}'] >= 1
    assert metrics["extauthz_pool_connections_max"] == MAX_CONCURRENT_LOOKUPS + 1
    assert metrics["process_resident_memory_bytes"] > 1e6
    assert metrics["extauthz_limits_uncharged_total"] == 0
