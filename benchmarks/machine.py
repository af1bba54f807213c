"""The machine under a bench: which process runs on which core and has used how much of it, and the machine's name."""

import os
import platform
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

CORES = sorted(os.sched_getaffinity(0))
SERVED = CORES[-1:]  # the core of what is measured
REST = CORES[:-1] or CORES  # of everything else; on a machine of one core, the same
LOAD = REST[:1]  # the core of the load
STORES = REST[1:] or REST  # of PostgreSQL and Redis: with two cores, the load's
FULL = 95.0  # percent of a core in use: a load on it could not have sent more
_TICK = os.sysconf("SC_CLK_TCK")
_SCHEDULED = 2  # of the clocks of a process, the one of the scheduler: clock_getcpuclockid(3)
_LIBRARIES = ("aiohttp", "uvloop", "redis", "hiredis", "psycopg", "prometheus-client", "pydantic")


def pin(pids: Iterable[int], cores: Collection[int]) -> None:
    """Keeps every thread of these processes on these cores."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(int(thread.name), cores)


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU, user and system, that these processes have used since they began."""
    return sum(time.clock_gettime(~pid << 3 | _SCHEDULED) for pid in pids)


def times(pid: int) -> tuple[float, float]:
    """Seconds of CPU that a process has used itself, and that the kernel has used for it; to 10 ms each."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICK, int(fields[12]) / _TICK


class Ticks(NamedTuple):
    """What the kernel has counted of cores so far: time in use and time in all."""

    used: int
    all: int

    def percent_since(self, before: "Ticks") -> float:
        """How much of the time since then was in use; 0 where no time has passed."""
        passed = self.all - before.all
        return 100 * (self.used - before.used) / passed if passed else 0.0


def ticks(stat: str, cores: Collection[int]) -> Ticks:
    """The time of these cores in the text of `/proc/stat`. Waiting for a disk is idle, a hypervisor's theft is use."""
    names = {f"cpu{core}" for core in cores}
    rows = [list(map(int, line.split()[1:9])) for line in stat.splitlines() if line.partition(" ")[0] in names]
    whole = sum(map(sum, rows))
    return Ticks(whole - sum(row[3] + row[4] for row in rows), whole)


def core_ticks(cores: Collection[int]) -> Ticks:
    """The time of these cores until now."""
    return ticks(Path("/proc/stat").read_text(), cores)


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
        "layout": _layout(),
        "kernel": platform.release(),
        "load": "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg()),
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {found}" for name in _LIBRARIES if (found := _version(name))),
    }


def _layout() -> str:
    served, load, stores = (", ".join(map(str, cores)) for cores in (SERVED, LOAD, STORES))
    shared = " (the same: what Redis and PostgreSQL use there, the load has not)" if LOAD == STORES else ""
    return f"service and bare aiohttp on core {served}, load on {load}, Redis and PostgreSQL on {stores}{shared}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
