"""One run of a load against one server, and many of them in turn."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import machine
from benchmarks.client import Job, Outcome
from benchmarks.gauges import Gauges, Reading

WRK = shutil.which("wrk") or ""
WARM_UP_SECONDS = 30.0  # at most
_NUMBERS = 10**12  # of twelve digits
Figures = dict[str, float]
Row = dict[str, list[float]]  # figure -> what each round has shown
Rows = dict[str, Row]


class Server(NamedTuple):
    """What answers: processes on a core of their own, and where."""

    pids: Sequence[int]
    host: str
    port: int
    gauges: Gauges | None = None  # where it has stores


@dataclass(frozen=True, slots=True)
class Case:
    """A row of a table: the server, the request, and how many requests come first without being counted.

    `all_keys` is a file with every key once, for those first requests, where `job.keys` are draws. `beside` is the row
    whose CPU and p99 this row's are held against, round by round: bare aiohttp, asked for the same.
    The first requests take `warm_seconds` at most.
    """

    name: str
    server: Server
    job: Job
    warm_up: int = 2_000
    all_keys: str = ""
    beside: str = ""
    warm_seconds: float = WARM_UP_SECONDS


async def load(job: Job) -> Outcome:
    """Does a job in a process of its own: with wrk where it is installed and can do it.

    Requests are numbered by the clock's microseconds, so that no two of a bench are alike.
    """
    numbered = replace(job, first=time.time_ns() // 1000 % _NUMBERS)
    if WRK and not job.rate and not job.at_most:
        return await wrk(WRK, numbered)
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.client"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    machine.pin([program.pid], machine.LOAD)
    told, _ = await program.communicate(json.dumps(asdict(numbered)).encode())
    assert program.returncode == 0, "the load has failed"
    return Outcome(**json.loads(told))


async def wrk(program: str, job: Job) -> Outcome:
    """Does a job, which has neither a rate nor an end, with wrk."""
    script = str(Path(__file__).with_name("wrk.lua"))
    process = await asyncio.create_subprocess_exec(
        *(program, "-t", "1", "-c", str(job.connections), "-d", f"{max(job.seconds, 1):.0f}s", "-s", script),
        *(f"http://{job.host}:{job.port}/", "--", job.request, job.keys, *map(str, (job.status, job.skip, job.first))),
        stdout=asyncio.subprocess.PIPE,
    )
    machine.pin([process.pid], machine.LOAD)
    told, _ = await process.communicate()
    assert process.returncode == 0, "wrk has failed"
    return Outcome(**json.loads(told.splitlines()[-1]))


async def measure(case: Case) -> Figures:
    """One run."""
    server, job = case.server, case.job
    before = await server.gauges.read() if server.gauges else None
    used, ticks = machine.cpu(server.pids), machine.core_ticks(machine.LOAD)
    outcome = await load(job)
    used, busy = machine.cpu(server.pids) - used, machine.core_ticks(machine.LOAD).percent_since(ticks)
    figures: Figures = {
        "requests": outcome.requests,
        "rate": outcome.requests / outcome.seconds,
        "cpu": used * 1e6 / outcome.requests,
        "load": busy,
        "p50": outcome.p50,
        "p90": outcome.p90,
        "p99": outcome.p99,
        "p999": outcome.p999,
        "others": 100 * outcome.others / outcome.requests,
        "memory": machine.resident(server.pids),
    }
    if server.gauges and before:
        figures |= _cost(before, await server.gauges.read(), outcome.requests)
    return figures


async def in_turn(cases: Sequence[Case], *, rounds: int) -> Rows:
    """Every case once a round, A B A B, so that whatever the machine does meanwhile, it does to all of them.

    Each goes on with its keys where its last round ended.
    """
    asked: dict[str, int] = {}
    for case in cases:
        asked[case.name] = 0
        if case.warm_up:
            job = replace(case.job, seconds=case.warm_seconds, at_most=case.warm_up)
            if case.all_keys:
                await load(replace(job, keys=case.all_keys))
            else:
                asked[case.name] = (await load(job)).requests
    rows: Rows = {case.name: {} for case in cases}
    for _ in range(rounds):
        for case in cases:
            figures = await measure(replace(case, job=replace(case.job, skip=asked[case.name])))
            asked[case.name] += round(figures["requests"])
            for figure, value in figures.items():
                rows[case.name].setdefault(figure, []).append(value)
    for case in cases:
        if case.beside in rows:
            hold_against(rows[case.name], rows[case.beside])
    return rows


def hold_against(row: Row, bare: Row) -> None:
    """Adds the ratios of a row's CPU and p99 to those of another, round by round."""
    for name, figure in (("of_bare", "cpu"), ("p99_of_bare", "p99")):
        row[name] = [a / b for a, b in zip(row[figure], bare[figure], strict=True)]


def load_is_full(row: Mapping[str, Sequence[float]]) -> bool:
    """Whether the load's core was in use all the time, so that the server could have answered more than it was sent."""
    return median(row["load"]) > machine.FULL


def pace(row: Mapping[str, Sequence[float]]) -> list[float]:
    """Requests a second that the server's core is good for: as seen, or by its CPU where the load's core was full."""
    return [1e6 / cpu for cpu in row["cpu"]] if load_is_full(row) else list(row["rate"])


def _cost(before: Reading, after: Reading, requests: int) -> Figures:
    looked = after.looked - before.looked
    return {
        "redis": (after.redis - before.redis) * 1e6 / requests,
        "scripts": (after.scripts - before.scripts) / requests,
        "reads": (after.reads - before.reads) / requests,
        "queries": (after.queries - before.queries) * 10_000 / requests,
        **({"found": 100 * (after.found - before.found) / looked} if looked else {}),
    }
