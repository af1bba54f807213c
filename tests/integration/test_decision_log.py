"""The decision log of a service as operators run it: to standard output, a file that is rotated, and a collector."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from extauthz.telemetry.decision_record import FIELDS
from tests.servers.forking import family
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.process import PATIENCE, Service, listening, settings
from tests.servers.serving import PATIENT
from tests.servers.shell import Shell
from tests.servers.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
async def key(operator: ManagementClient) -> str:
    """A key of an organization."""
    await operator.tenants.create_plan("plenty", NO_LIMITS)
    await operator.tenants.create_organization("acme", "plenty")
    return (await operator.new_key("acme"))[1]


async def asked(service: Service, key: str) -> None:
    """Two checks: one that is allowed, one that is not."""
    allowed = await service.get(
        "envoy", "/api/7?q=1", authorization=f"Bearer {key}", traceparent=PARENT, **{"x-request-id": "r-1"}
    )
    assert allowed.decision == "allow"
    assert (await service.get("nginx", "/")).decision == "bad_proxy_request"


def check(lines: list[dict[str, Any]]) -> None:
    """Asserts that lines say what was asked."""
    assert all(tuple(line) == FIELDS for line in lines)
    allow, bad = sorted(lines, key=lambda line: str(line["decision"]))
    assert (allow["method"], allow["path"], allow["status"], allow["request_id"]) == ("GET", "/api/7", 200, "r-1")
    assert (allow["trace_id"], allow["cost"], allow["route"], allow["dialect"]) == (TRACE, 1, "/**", "envoy")
    assert allow["organization_id"]
    assert (bad["decision"], bad["status"], bad["dialect"], bad["path"]) == ("bad_proxy_request", 403, "nginx", "")


async def test_to_standard_output(database: str, redis_url: str, key: str) -> None:
    """Lines are there within moments, and the last ones at the end; they are apart from the log."""
    environ = settings(database, redis_url, EXTAUTHZ_DECISION_LOG="all") | PATIENT
    async with listening(environ, "--workers", "2", stdout=PIPE) as service:
        await asked(service, key)
        assert service.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            lines = [json.loads(await service.process.stdout.readline()) for _ in range(2)]
        check(lines)
        assert {line["worker"] for line in lines} <= {0, 1}
        assert (await service.check()).decision == "no_credentials"
        assert await service.end() == 0
        (last,) = (await service.process.stdout.read()).splitlines()
        assert json.loads(last)["decision"] == "no_credentials"


async def test_to_a_file_that_is_rotated(database: str, redis_url: str, key: str, tmp_path: Path) -> None:
    """Denials only; after a rename lines go to a new file; the metric of dropped lines is there."""
    file = tmp_path / "decisions.jsonl"
    environ = settings(
        database, redis_url, EXTAUTHZ_DECISION_LOG="denials", EXTAUTHZ_DECISION_LOG_TO=str(file), **PATIENT
    )
    async with listening(environ) as service:
        await asked(service, key)
        await _until_lines(file, 1)
        file.rename(tmp_path / "decisions.jsonl.1")
        assert (await service.check()).decision == "no_credentials"
        (line,) = await _until_lines(file, 1)
        assert json.loads(line)["decision"] == "no_credentials"
        assert json.loads((tmp_path / "decisions.jsonl.1").read_text())["decision"] == "bad_proxy_request"
        assert (await service.metrics())["extauthz_decision_log_dropped_total"] == 0


async def _until_lines(file: Path, count: int) -> list[str]:
    async def there() -> bool:
        return file.exists() and len(file.read_text().splitlines()) >= count  # noqa: ASYNC240 - a small file

    await until(there)
    return file.read_text().splitlines()  # noqa: ASYNC240 - a small file


async def test_a_full_disk(database: str, redis_url: str, key: str) -> None:
    """Checks are answered as before; lost lines are counted over all workers, and logged."""
    environ = settings(
        database, redis_url, EXTAUTHZ_DECISION_LOG="all", EXTAUTHZ_DECISION_LOG_TO="/dev/full", **PATIENT
    )
    async with listening(environ, "--workers", "2") as service:
        for _ in range(10):
            assert (await service.check(key)).decision == "allow"
        await service.logged("decision_log_lines_dropped")

        async def counted() -> bool:
            return (await service.metrics())["extauthz_decision_log_dropped_total"] == 10

        await until(counted)


async def test_a_blocked_pipe(database: str, redis_url: str, key: str) -> None:
    """A reader that does not read standard output holds up no check, and the end for a second at most."""
    environ = settings(database, redis_url, EXTAUTHZ_DECISION_LOG="all") | PATIENT
    async with listening(environ, stdout=PIPE, bufsize=0) as service:
        transport = service.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]  # no other way
        transport.pause_reading()
        for _ in range(60):  # more than a pipe holds
            assert (await service.check(key, "/api/" + "x" * 1400)).decision == "allow"
        service.process.send_signal(signal.SIGTERM)

        async def ended() -> bool:
            return service.process.returncode is not None

        await until(ended, PATIENCE)  # `wait` would wait for the pipe, too
        assert service.process.returncode == 0
        transport.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"EXTAUTHZ_DECISION_LOG_TO": "{folder}/none/x.log"}, "is in a folder that does not exist; make it"),
        ({"EXTAUTHZ_DECISION_LOG_TO": "{folder}"}, "is a folder; name a file in it"),
        ({"EXTAUTHZ_DECISION_LOG_TO": "/proc/version/x"}, "is in a folder that does not exist"),
        ({"EXTAUTHZ_DECISION_LOG_TO": "/" + "x" * 300}, "cannot be used as a path"),
        ({"EXTAUTHZ_DECISION_LOG_TO": "otlp"}, "otlp needs OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"EXTAUTHZ_DECISION_LOG_TO": "syslog"}, "must be stdout, otlp or the path of a file"),
        ({"EXTAUTHZ_DECISION_LOG": "some"}, "must be off, denials, all or a share"),
    ],
)
def test_a_place_that_cannot_be_written(tmp_path: Path, given: dict[str, str], said: str) -> None:
    """The start ends with status 2 and one line that names the setting and what to do."""
    more = {name: text.format(folder=tmp_path) for name, text in given.items()}
    shell = Shell(tmp_path, settings("postgresql://127.0.0.1:1/x", "redis://127.0.0.1:1", EXTAUTHZ_DECISION_LOG="all"))
    for command in ("serve", "check-config"):
        line = shell.refused(2, command, **more)
        assert line.startswith(f"{next(iter(given))}: ")
        assert said in line


class Collector:
    """Takes OTLP logs over HTTP, as a collector does; it hangs while `hung`."""

    def __init__(self) -> None:
        self.requests: list[ExportLogsServiceRequest] = []
        self.headers: list[str] = []
        self.hung = False
        self.news = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        body = ExportLogsServiceRequest.FromString(await request.read())
        self.headers.append(request.headers.get("x-tenant", ""))
        if self.hung:
            await asyncio.Event().wait()
        self.requests.append(body)
        self.news.set()
        return web.Response(content_type="application/x-protobuf")

    def records(self) -> list[LogRecord]:
        return [
            record
            for request in self.requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    async def until_records(self, count: int) -> list[LogRecord]:
        async with asyncio.timeout(PATIENCE):
            while len(self.records()) < count:
                self.news.clear()
                await self.news.wait()
        return self.records()


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    """A collector, and its address."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/logs", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield collector, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def attributes(record: LogRecord) -> dict[str, Any]:
    values = {each.key: each.value for each in record.attributes}
    return {name: getattr(value, str(value.WhichOneof("value"))) for name, value in values.items()}


async def test_to_a_collector(database: str, redis_url: str, key: str) -> None:
    """OTLP logs, with the names of the semantic conventions, the trace, and configured headers and service name."""
    async with collecting() as (collector, at):
        environ = settings(
            database,
            redis_url,
            EXTAUTHZ_DECISION_LOG="all",
            EXTAUTHZ_DECISION_LOG_TO="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=at,
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=ours",
            OTEL_SERVICE_NAME="gate",
            OTEL_TRACES_EXPORTER="none",
            **PATIENT,
        )
        async with listening(environ) as service:
            await asked(service, key)
            allow, bad = sorted(await collector.until_records(2), key=lambda record: record.severity_number)
            assert uses_protobuf(service.process.pid)
    assert set(collector.headers) == {"ours"}
    resource = {
        each.key: each.value.string_value for each in collector.requests[0].resource_logs[0].resource.attributes
    }
    assert resource["service.name"] == "gate"
    assert allow.event_name == "extauthz.decision"
    assert allow.trace_id.hex() == TRACE
    assert allow.time_unix_nano > 0
    found = attributes(allow)
    assert found["http.request.method"] == "GET"
    assert found["url.path"] == "/api/7"
    assert found["http.route"] == "/**"
    assert found["http.response.status_code"] == 200
    assert found["server.address"] == "127.0.0.1"
    assert found["extauthz.decision"] == "allow"
    assert found["extauthz.organization_id"]
    assert attributes(bad)["extauthz.decision"] == "bad_proxy_request"
    assert "url.path" not in attributes(bad)


async def test_a_collector_that_hangs(database: str, redis_url: str, key: str) -> None:
    """It holds up neither a check nor, for more than a second, the end."""
    async with collecting() as (collector, at):
        collector.hung = True
        environ = settings(
            database,
            redis_url,
            EXTAUTHZ_DECISION_LOG="all",
            EXTAUTHZ_DECISION_LOG_TO="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=at,
            OTEL_TRACES_EXPORTER="none",
            **PATIENT,
        )
        async with listening(environ) as service:
            for _ in range(20):
                assert (await service.check(key)).decision == "allow"

            async def asked_of_it() -> bool:
                return bool(collector.headers)

            await until(asked_of_it)
            assert await service.end() == 0


async def test_without_a_collector_the_sdk_is_not_imported(database: str, redis_url: str, key: str) -> None:
    """A service that logs to a file has no SDK of OpenTelemetry in its process."""
    environ = settings(database, redis_url, EXTAUTHZ_DECISION_LOG="all", EXTAUTHZ_DECISION_LOG_TO="/dev/null") | PATIENT
    async with listening(environ) as service:
        assert (await service.check(key)).decision == "allow"
        assert not any(map(uses_protobuf, family(service.process.pid)))


def uses_protobuf(process: int) -> bool:
    """Whether a process has loaded the library that OTLP is written with."""
    return "/google/_upb/" in Path(f"/proc/{process}/maps").read_text()
