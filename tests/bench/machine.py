"""The machine under a bench: who runs on which core, what a process has used of it, and what machine it is."""

import os
import platform
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVED = CORES[-1:]  # the core of what is measured
REST = CORES[:-1] or CORES  # of the load, PostgreSQL and Redis; on a machine of one core, the same
_TICK = os.sysconf("SC_CLK_TCK")
_LIBRARIES = ("aiohttp", "uvloop", "redis", "hiredis", "psycopg", "prometheus-client", "pydantic")


def pin(pids: Iterable[int], cores: Collection[int]) -> None:
    """Keeps every thread of these processes on these cores."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(int(thread.name), cores)


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU, user and system, that these processes have used since they began; to 10 ms each."""
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in pids) / _TICK


def resident(pids: Iterable[int]) -> float:
    """Megabytes (10⁶ bytes) of memory that these processes hold."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def describe() -> dict[str, str]:
    """What the machine is, and what runs on it besides."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": models[0].partition(": ")[2] if models else platform.machine(),
        "cores": str(len(CORES)),
        "memory": f"{total / 1e9:.0f} GB",
        "kernel": platform.release(),
        "load": "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg()),
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {found}" for name in _LIBRARIES if (found := _version(name))),
    }


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
