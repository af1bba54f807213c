"""Tracing of a process as operators run it: what it imports, and receivers that are away, hang or refuse."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from extauthz.demo.ports import free_port
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.otlp import OtlpReceiver, otlp_receiver
from tests.servers.process import listening, settings, started
from tests.servers.waiting import until

FAR = "600"  # seconds: an end that waited for a request would be waited for in vain
TELL_MODULES = """import atexit, os, sys
def tell():
    with open(f"{os.path.dirname(__file__)}/{os.getpid()}.modules", "w") as file:
        file.write("\\n".join(sys.modules))
atexit.register(tell)
"""
DROPPED = "extauthz_spans_dropped_total"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


def modules_told(folder: Path) -> list[set[str]]:
    """What each process had imported by its end."""
    return [set(file.read_text().split()) for file in folder.glob("*.modules")]


@pytest.mark.parametrize(("workers", "traced"), [("1", True), ("1", False), ("2", False)])
async def test_what_is_imported(
    database: str, redis_url: str, receiver: OtlpReceiver, tmp_path: Path, *, workers: str, traced: bool
) -> None:
    """Without an endpoint nothing of the SDK's traces, of its exporter or of the HTTP library is, in any process."""
    (tmp_path / "sitecustomize.py").write_text(TELL_MODULES)
    environ = settings(database, redis_url, PYTHONPATH=str(tmp_path), EXTAUTHZ_WORKERS=workers)
    if traced:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
    async with listening(environ) as service:
        if workers == "2":
            await service.logged("serving", count=2)
        assert await service.end() == 0
    told = modules_told(tmp_path)
    answering = [modules for modules in told if "extauthz.transports.http.connection" in modules]
    assert len(answering) >= int(workers)
    theirs = {"opentelemetry.sdk.trace", "opentelemetry.exporter", "requests"}
    found = [modules & theirs for modules in answering]
    assert found.count(theirs) == (int(workers) if traced else 0)
    assert traced or not any(found)


async def test_every_worker_records(
    database: str, redis_url: str, receiver: OtlpReceiver, operator: ManagementClient
) -> None:
    """Each has an instance id of its own, and sends what is left at its end."""
    await operator.tenants.create_plan("free", NO_LIMITS)
    await operator.tenants.create_organization("acme", "free")
    _, key = await operator.new_key("acme")
    environ = settings(database, redis_url, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, EXTAUTHZ_WORKERS="2")
    async with listening(environ) as service:
        asked = 0

        async def both_recorded() -> bool:
            nonlocal asked
            assert (await service.check(key)).decision == "allow"
            asked += 1
            return len({span.resource["service.instance.id"] for span in receiver.spans}) == 2

        await until(both_recorded, 20)
        assert await service.end() == 0
    assert len(receiver.checks(asked)) == asked


@pytest.mark.parametrize("case", ["hangs", "is away", "fails", "is overloaded"])
async def test_a_receiver_that_takes_nothing(
    database: str, redis_url: str, receiver: OtlpReceiver, operator: ManagementClient, *, case: str
) -> None:
    """Checks are answered as ever, and the end waits for no request that may take minutes."""
    await operator.tenants.create_plan("free", NO_LIMITS)
    await operator.tenants.create_organization("acme", "free")
    _, key = await operator.new_key("acme")
    url = f"http://127.0.0.1:{free_port()}" if case == "is away" else receiver.url
    receiver.status = {"fails": 500, "is overloaded": 503}.get(case, 200)
    if case == "hangs":
        receiver.hung.set()
    environ = settings(database, redis_url, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_TIMEOUT=FAR)
    async with listening(environ, "--workers", "1") as service:
        for _ in range(100):
            assert (await service.check(key)).decision == "allow"
        if case == "fails":
            await service.logged("spans_not_sent", error="HTTP 500")
            assert (await service.metrics())[DROPPED] > 0
        elif case != "is away":
            receiver.until(lambda it: it.requests > 0)
        assert await service.end() == 0
    if case in ("hangs", "is overloaded"):
        assert (await service.logged("spans_lost_at_stop"))["count"] > 0
    assert receiver.spans == []


async def test_a_receiver_that_comes_back(database: str, redis_url: str, receiver: OtlpReceiver) -> None:
    """Refused spans are lost, and that is logged once; later ones are sent, and that is logged as well."""
    receiver.status = 401
    environ = settings(
        database,
        redis_url,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"{receiver.url}/s3cret-path",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20s3cret-token",
    )
    async with listening(environ) as service:
        await service.check()
        await service.logged("spans_not_sent", error="HTTP 401")
        await service.check()
        receiver.until(lambda it: it.requests > 1)
        receiver.status = 200
        await service.check()
        await service.logged("spans_sent_again")
        metrics = await service.metrics()
        assert await service.end() == 0
    assert (metrics[DROPPED], len(receiver.spans)) == (2, 1)
    assert len([line for line in service.log if line["event"] == "spans_not_sent"]) == 1
    assert "s3cret" not in service.text + json.dumps(metrics)


async def test_a_malformed_endpoint_stops_the_start(database: str, redis_url: str) -> None:
    """The start fails with a line that names the setting, without its value."""
    environ = settings(database, redis_url, OTEL_EXPORTER_OTLP_ENDPOINT="grpc://u:s3cret@otel:4317")
    async with started(environ) as service:
        assert await service.ended() == 2
    assert service.text.startswith("extauthz: OTEL_EXPORTER_OTLP_ENDPOINT: must be http://host:4318")
    assert "s3cret" not in service.text


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_metrics_are_sent(
    database: str, redis_url: str, receiver: OtlpReceiver, operator: ManagementClient, *, workers: str
) -> None:
    """Those of `/metrics`, under the same names, once for all workers; at the end all that was counted."""
    _, key = await operator.new_key("acme")
    environ = settings(
        database,
        redis_url,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRIC_EXPORT_INTERVAL="100",
        EXTAUTHZ_WORKERS=workers,
    )
    async with listening(environ) as service:
        for _ in range(5):
            assert (await service.check(key)).decision == "allow"
        scraped = await service.metrics()
        receiver.until(lambda it: bool(it.metrics))
        assert await service.end() == 0
    last = {metric.name: (metric, resource) for metric, resource in receiver.metrics}
    names = {name.partition("{")[0] for name in scraped}
    # The database's figures, which are read in the background, may come later than the scrape.
    assert set(last) >= {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    decisions, resource = last["extauthz_decisions_total"]
    assert resource["service.name"] == "extauthz"
    assert decisions.sum.is_monotonic
    assert sum(point.as_double for point in decisions.sum.data_points) == 5
    durations = last["extauthz_decision_duration_seconds"][0]
    (envoy,) = [point for point in durations.histogram.data_points if point.count]
    assert (envoy.count, sum(envoy.bucket_counts)) == (5, 5)
    assert len(envoy.bucket_counts) == len(envoy.explicit_bounds) + 1
    assert durations.unit == "s"
    assert receiver.spans == []
