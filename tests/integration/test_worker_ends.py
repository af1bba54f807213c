"""The end of processes that have just begun, or that get several signals: none is left, the status is right."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.servers.forking import family
from tests.servers.process import FREE_PORTS, Service, listening, settings, started


def left(members: list[int]) -> list[int]:
    """Processes that still run; what has ended is for another process to bury."""
    files = {member: Path(f"/proc/{member}/cmdline") for member in members}
    return [member for member, file in files.items() if file.exists() and file.read_bytes()]


async def family_of(service: Service, size: int) -> list[int]:
    """All processes of the service, once there are so many."""
    for _ in range(2000):
        if len(members := family(service.process.pid)) >= size:
            return members
        await asyncio.sleep(0.01)
    raise AssertionError(f"it has only {len(members)} processes")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.deep)])
async def test_a_stop_during_the_start_of_workers(database: str, redis_url: str, number: signal.Signals) -> None:
    """Workers that were only just made end with the rest, and the service ends with 0 in less than the drain."""
    patient = settings(database, redis_url, EXTAUTHZ_DRAIN_SECONDS="60")
    async with started(FREE_PORTS | patient, "--workers", "3") as service:
        members = await family_of(service, 2)
        assert await service.end(number) == 0
    assert left(members) == []
    assert service.log[-1]["event"] == "stopped"


async def test_two_signals_at_once_to_all(database: str, redis_url: str) -> None:
    """SIGINT to the group, as Ctrl-C does, and a SIGTERM to each process right after it: quick, and with 0."""
    patient = settings(database, redis_url, EXTAUTHZ_DRAIN_SECONDS="60")
    async with listening(patient, "--workers", "2", start_new_session=True) as service:
        await service.until(lambda report: report["workers"] == "ok")
        members = family(service.process.pid)
        os.killpg(service.process.pid, signal.SIGINT)
        await service.logged("draining")
        for member in members:
            os.kill(member, signal.SIGTERM)
        assert await service.ended() == 0
    assert left(members) == []
    assert "Traceback" not in service.text


async def test_workers_end_with_a_supervisor_that_is_killed_early(database: str, redis_url: str) -> None:
    """A supervisor that is killed before its workers serve leaves no worker and no trace of one."""
    async with started(FREE_PORTS | settings(database, redis_url), "--workers", "2") as service:
        members = await family_of(service, 3)
        service.process.kill()
        assert await service.ended() == -signal.SIGKILL
    assert left(members[1:]) == []
    assert "Traceback" not in service.text


async def test_a_worker_told_to_end_is_replaced(database: str, redis_url: str) -> None:
    """SIGTERM to one worker lets it drain; the others answer meanwhile, and another takes its place."""
    async with listening(settings(database, redis_url), "--workers", "2") as service:
        await service.until(lambda report: report["workers"] == "ok")
        _, first, second = family(service.process.pid)
        os.kill(first, signal.SIGTERM)
        died = await service.logged("worker_restarted")
        assert died["status"] == 0
        assert (await service.check()).decision == "no_credentials"
        await service.until(lambda report: report["workers"] == "ok")
        assert left([first, second]) == [second]
        assert await service.end() == 0
