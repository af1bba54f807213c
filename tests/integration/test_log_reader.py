"""The log never stops the service or fills a disk: a reader that stops, a closed descriptor, many events."""

import asyncio
import fcntl
import os
import resource
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from extauthz.demo.ports import free_port
from extauthz.demo.redis import Redis
from extauthz.telemetry.log_limit import SECONDS
from extauthz.telemetry.logs import FLUSH_SECONDS
from tests.servers.fixtures import stopped
from tests.servers.forking import family
from tests.servers.management_client import ManagementClient
from tests.servers.process import EXTAUTHZ, INHERITED, PATIENCE, QUICK, Service, listening, settings
from tests.servers.raw_http import ask, wire
from tests.servers.serving import question

READYZ = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Unread:
    """A service with a log that no test reads."""

    def __init__(self, process: asyncio.subprocess.Process, envoy: int, admin: int) -> None:
        self.process, self.envoy, self.admin = process, envoy, admin

    async def until(self, *parts: bytes) -> None:
        """Asks `/readyz` until its body has all these parts."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(OSError, asyncio.IncompleteReadError):
                    body = (await ask(self.admin, READYZ)).body
                    if all(part in body for part in parts):
                        return
                await asyncio.sleep(0.02)

    async def dropped(self) -> float:
        """The metric of lines that were lost."""
        lines = (await ask(self.admin, METRICS)).body.decode().splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith("extauthz_log_dropped_total "))

    async def end(self) -> int:
        """Ends it within the bound that a stuck reader is given; the exit status."""
        self.process.terminate()
        async with asyncio.timeout(FLUSH_SECONDS + PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def unread(environ: Mapping[str, str], *arguments: str, stderr: int | None) -> AsyncIterator[Unread]:
    """`serve`, ready; `stderr` None: it has none."""
    ports = {name: free_port() for name in ("ENVOY", "ADMIN")}
    listen = {f"EXTAUTHZ_{name}_LISTEN": "off" for name in ("NGINX", "FORWARD", "USAGE")}
    listen |= {f"EXTAUTHZ_{name}_LISTEN": f"127.0.0.1:{port}" for name, port in ports.items()}
    argv = [*EXTAUTHZ, "serve", *arguments]
    if stderr is None:
        argv = ["sh", "-c", 'exec "$@" 2>&-', "sh", *argv]
    process = await asyncio.create_subprocess_exec(*argv, env=INHERITED | QUICK | listen | dict(environ), stderr=stderr)
    service = Unread(process, ports["ENVOY"], ports["ADMIN"])
    try:
        await service.until(b'"status": "ready"', b'"redis": "ok"')
        yield service
    finally:
        for member in family(process.pid) if process.returncode is None else ():
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        await process.wait()


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.deep)])
async def test_a_reader_that_stops_does_not_stop_the_service(
    database: str, redis_url: str, operator: ManagementClient, redis_server: Redis, workers: str
) -> None:
    """Checks are answered while every line waits for a reader that sleeps, also those lines that an outage makes.

    When it is told to end, it does, with 0 and without the reader.
    """
    _, key = await operator.new_key("acme")
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"-" * 4096)  # as full as it gets
    async with unread(settings(database, redis_url), "--workers", workers, stderr=writer) as service:
        os.close(writer)
        with stopped(redis_server):
            await service.until(b'"redis": "connection')
            for _ in range(20):
                assert (await ask(service.envoy, question("envoy", key=key))).decision == "allow"
        await service.until(b'"redis": "ok"')
        assert await service.end() == 0
    os.close(reader)


async def test_lines_that_cannot_be_written_are_counted(database: str, redis_url: str) -> None:
    """On a full disk the service answers and the metric counts, those of each worker and of their supervisor."""
    full = os.open("/dev/full", os.O_WRONLY)
    async with unread(settings(database, redis_url), "--workers", "2", stderr=full) as service:
        os.close(full)
        assert await service.dropped() >= 5  # "listening" once, and of each worker "store_up" twice
        assert (await ask(service.envoy, question("envoy"))).decision == "no_credentials"
        assert await service.end() == 0


def standard_error(pid: int) -> str:
    """Where a process's descriptor leads."""
    return str(Path(f"/proc/{pid}/fd/2").readlink())


async def test_without_standard_error(database: str, redis_url: str) -> None:
    """Where the descriptor is closed, no line is written into a file or connection that has its number."""
    async with unread(settings(database, redis_url), "--workers", "2", stderr=None) as service:
        for member in family(service.process.pid):
            assert standard_error(member) == "/dev/null"
        assert (await ask(service.envoy, question("envoy"))).decision == "no_credentials"
        assert await service.end() == 0


def shown(terminal: int) -> list[str]:
    """What has been written on a terminal, line by line."""
    os.set_blocking(terminal, False)
    text = b""
    with suppress(OSError):
        while more := os.read(terminal, 65_536):
            text += more
    return [line for line in text.decode().splitlines() if line]


@pytest.mark.parametrize("wanted", ["console", pytest.param("json", marks=pytest.mark.deep)])
async def test_on_a_terminal_the_log_is_text(database: str, redis_url: str, wanted: str) -> None:
    """The supervisor and its workers write text lines to a terminal, unless JSON is asked for."""
    ours, theirs = os.openpty()
    environ = settings(database, redis_url) | ({"EXTAUTHZ_LOG_FORMAT": "json"} if wanted == "json" else {})
    async with unread(environ, "--workers", "2", stderr=theirs) as service:
        await service.until(b'"workers": "ok"')
        assert await service.end() == 0
    lines = shown(ours)
    os.close(theirs)
    os.close(ours)
    assert len([line for line in lines if "serving" in line]) == 2
    assert {line.startswith("{") for line in lines} == {wanted == "json"}


async def once_a_second(service: Service) -> None:
    """Waits for three lines of each worker."""
    for worker in range(2):
        lines = [await service.logged("accept_failed", error="EMFILE", worker=worker, count=n) for n in (1, 2, 3)]
        moments = [datetime.fromisoformat(line["timestamp"]) for line in lines]
        assert all((after - before).total_seconds() > SECONDS / 2 for before, after in pairwise(moments))


@pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=pytest.mark.deep)])
async def test_without_descriptors_it_is_a_line_a_second(
    database: str, redis_url: str, tmp_path: Path, loop: str
) -> None:
    """A worker that can accept nothing more says so once a second, and accepts again when it can.

    On uvloop it gives connections up that it has no descriptor for, and says nothing of them.
    """
    (tmp_path / "uvloop.py").write_text("raise ImportError")
    environ = settings(database, redis_url) | ({"PYTHONPATH": str(tmp_path)} if loop == "asyncio" else {})
    async with listening(environ, "--workers", "2") as service, AsyncExitStack() as stack:
        await service.until(lambda report: report["workers"] == "ok" and report["status"] == "ready")
        workers = family(service.process.pid)[1:]
        for worker in workers:
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (32, 1024))
        port = int((await service.address("envoy")).rpartition(":")[2])
        for _ in range(80):
            await stack.enter_async_context(wire(port))
        if loop == "asyncio":
            await once_a_second(service)
        assert len(service.text) < 20_000
        for worker in workers:
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (1024, 1024))
        await stack.aclose()
        assert (await service.check()).decision == "no_credentials"
        assert await service.end() == 0
