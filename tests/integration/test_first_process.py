"""`serve` as the first process of a container: it reaps orphans, and passes signals and exit statuses on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extauthz.demo.folders import am_root
from extauthz.demo.process import family
from tests.servers.process import EXTAUTHZ, Service, listening, settings

# Gets orphans, as the first process does; writes the number of one that will soon end, and becomes the command.
SUBREAPER = """
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(36, 1)
if not os.fork():
    orphan = os.fork()
    if not orphan:
        os.closerange(0, 3)
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    with open(sys.argv[1], "w") as file:
        file.write(str(orphan))
    os._exit(0)
os.wait()
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""
SOON = "3"  # seconds, when `serve` has begun


def is_buried(pid: int) -> bool:
    """Whether a process has vanished altogether, and does not stay as one that has ended."""
    return not Path(f"/proc/{pid}").exists()


def number_in(file: Path) -> int:
    return int(file.read_text())


def serving_child(service: Service) -> int:
    """The process that has the listening sockets; another child may be the orphan, whose program is SUBREAPER."""
    programs = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family(service.process.pid)[1:]}
    (child,) = [pid for pid, program in programs.items() if b"serve" in program and b"\0-c\0" not in program]
    return child


@pytest.fixture
def process_one() -> tuple[str, ...]:
    """What makes a command the first process of a namespace of its own."""
    become = ("unshare", "--pid", "--fork", "--kill-child")
    if not am_root() or subprocess.run([*become, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow process namespaces")
    return become


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.deep)])
async def test_orphans_are_reaped(database: str, redis_url: str, tmp_path: Path, workers: str) -> None:
    """A process that lost its parent leaves nothing behind; the service ends as ever, with 0."""
    file = tmp_path / "orphan"
    argv = (sys.executable, "-c", SUBREAPER, file, SOON, *EXTAUTHZ[1:])
    async with listening(settings(database, redis_url), "--workers", workers, argv=argv) as service:
        await service.until(lambda report: report["status"] == "ready")
        orphan = number_in(file)
        await service.until(lambda _: is_buried(orphan))
        service.process.send_signal(signal.SIGHUP)
        await service.logged("signal_ignored", signal="SIGHUP")
        assert (await service.check()).decision == "no_credentials"
        assert await service.end() == 0


async def test_a_service_that_is_killed_sets_the_exit_status(database: str, redis_url: str, tmp_path: Path) -> None:
    """Where the service itself is killed, the first process ends with the status that a shell would give."""
    argv = (sys.executable, "-c", SUBREAPER, tmp_path / "orphan", SOON, *EXTAUTHZ[1:])
    async with listening(settings(database, redis_url), argv=argv) as service:
        os.kill(serving_child(service), signal.SIGKILL)
        assert await service.ended() == 128 + signal.SIGKILL


async def test_as_process_one(database: str, redis_url: str, process_one: tuple[str, ...]) -> None:
    """In a namespace of its own, where no signal has a default action, SIGTERM ends it with 0."""
    async with listening(settings(database, redis_url), argv=(*process_one, *EXTAUTHZ)) as service:
        await service.until(lambda report: report["status"] == "ready")
        os.kill(family(service.process.pid)[1], signal.SIGTERM)
        assert await service.ended() == 0
