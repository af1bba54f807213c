"""`--workers N`: several processes that act as one, also where one of them fails."""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from extauthz.app.supervisor import RESTART_DELAYS_SECONDS
from tests.servers.forking import family
from tests.servers.management_client import ManagementClient
from tests.servers.process import Report, Service, listening, settings
from tests.servers.raw_http import Wire, wire
from tests.servers.serving import LISTENERS, PATIENT, question

CONNECTIONS = 20  # to each worker
ALLOWED = 'extauthz_decisions_total{decision="allow",dialect="envoy"}'
TIMED = 'extauthz_decision_duration_seconds_count{dialect="envoy"}'
TAKEN = "token_bucket_consumed_total"


def both(report: Report) -> bool:
    return report["workers"] == "ok" and report["status"] == "ready"


@pytest.fixture
async def key(operator: ManagementClient) -> str:
    """A key of an organization with plenty."""
    await operator.tenants.create_plan(
        "plenty", {"rate": "1/d", "burst": 10**6, "daily_quota": None, "monthly_quota": None}
    )
    await operator.tenants.create_organization("acme", "plenty")
    return (await operator.new_key("acme"))[1]


@pytest.fixture
async def service(database: str, redis_url: str) -> AsyncIterator[Service]:
    """Two workers, both there."""
    async with listening(settings(database, redis_url) | PATIENT, "--workers", "2") as service:
        await service.until(both)
        yield service


def workers_of(service: Service) -> list[int]:
    """The numbers of its worker processes."""
    return family(service.process.pid)[1:]


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


async def port(service: Service, listener: str = "envoy") -> int:
    return int((await service.address(listener)).rpartition(":")[2])


async def allowed(connection: Wire, key: str) -> bool:
    """Whether a check on that connection passes; False where the other side has closed it."""
    try:
        return (await connection.ask(question("envoy", key=key))).decision == "allow"
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def test_several_answer_and_count_as_one(service: Service, key: str) -> None:
    """Every worker answers; each answer is counted once; counts of a killed worker stay; it is replaced."""
    workers = workers_of(service)
    async with AsyncExitStack() as stack:
        wires: list[Wire] = []
        for other in workers:
            os.kill(other, signal.SIGSTOP)  # now it is for the one that is left
            wires += [await stack.enter_async_context(wire(await port(service))) for _ in range(CONNECTIONS)]
            assert all([await allowed(connection, key) for connection in wires[-CONNECTIONS:]])
            os.kill(other, signal.SIGCONT)
        assert all([await allowed(connection, key) for connection in wires])
        asked = 4 * CONNECTIONS
        metrics = await service.metrics()
        assert (metrics[ALLOWED], metrics[TIMED], metrics[TAKEN]) == (asked, asked, asked)

        os.kill(workers[0], signal.SIGKILL)
        assert await service.until(lambda report: report["workers"] == "1 of 2") == 200
        assert [await allowed(connection, key) for connection in wires] == [True] * CONNECTIONS + [False] * CONNECTIONS
    asked += CONNECTIONS
    assert (await service.metrics())[ALLOWED] == asked
    while not both((await service.readyz())[1]):
        asked += (await service.check(key)).decision == "allow"
        assert (await service.metrics())[ALLOWED] == asked
    metrics = await service.metrics()
    assert (metrics[ALLOWED], metrics[TIMED], metrics[TAKEN]) == (asked, asked, asked)
    assert (await service.logged("worker_restarted"))["status"] == -signal.SIGKILL


async def test_a_worker_started_again_has_the_settings_of_the_others(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    """A change of the configuration file takes effect at the next start of the service, not of a worker."""
    file = tmp_path / "extauthz.toml"
    file.write_text('[[routes]]\npath = "/api"\npublic = true\n')
    async with listening(settings(database, redis_url), "--workers", "2", "--config", str(file)) as service:
        await service.until(both)
        file.write_text("nonsense")
        for worker in workers_of(service):
            os.kill(worker, signal.SIGKILL)
        assert await service.until(lambda report: report["workers"] != "ok") in (200, 503)
        await service.until(both)
        assert (await service.check()).decision == "allow"


async def test_a_worker_that_cannot_start_is_retried(service: Service) -> None:
    """Where no process can be made, pauses grow and the others go on; it returns when it can; a stop ends retries."""
    pid, event, full = service.process.pid, "worker_restarted", "[Errno 24] Too many open files"
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, hard))
    os.kill(workers_of(service)[1], signal.SIGKILL)
    died = await service.logged(event)
    failed = [await service.logged(event, count=number, status=full) for number in (1, 2)]
    assert (await service.check()).decision == "no_credentials"
    moments = [datetime.fromisoformat(record["timestamp"]) for record in (died, *failed)]
    pauses = [(after - before).total_seconds() for before, after in pairwise(moments)]
    assert all(pause >= least for pause, least in zip(pauses, RESTART_DELAYS_SECONDS, strict=False))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    await service.until(both)


async def test_workers_end_with_their_supervisor(service: Service) -> None:
    """However the supervisor ends, its workers do too, and the addresses are free again."""
    ports = [await port(service, listener) for listener in (*LISTENERS, "admin")]
    workers = workers_of(service)
    assert len(workers) == 2
    service.process.kill()
    assert await service.ended() == -signal.SIGKILL
    assert all(map(is_gone, workers))
    for number in ports:
        socket.create_server(("127.0.0.1", number)).close()
