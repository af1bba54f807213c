"""Where the time of an allowed check goes: `make bench-profile`, functions by their own time.

The profiler makes every call of Python dearer than it is, so read the shares against each other, not against the bench.
It counts time, not CPU: `poll` is mostly waiting for the load.
"""

import asyncio
import os
import pstats
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from extauthz.demo.folders import temporary_folder
from tests.bench.cases import WARM
from tests.bench.ground import table
from tests.bench.runs import load
from tests.bench.stage import job, stage

SECONDS = 5.0
LINES = 40
HOOK = Path(__file__).with_name("hooks")
PLACES = (
    "site-packages/",
    f"{Path(asyncio.__file__).parents[1]}/",
    f"{HOOK.parents[2]}/",
)  # what paths are shown without

Stats = Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]]


async def main() -> None:
    """Profiles and prints; arguments are what the names of functions or files must contain, any of them."""
    with temporary_folder("extauthz bench ") as folder:
        file = folder / "profile"
        async with stage(PYTHONPATH=str(HOOK), BENCH_PROFILE=str(file)) as at:
            asked = replace(job(at.envoy, keys=at.keys_of(WARM)), seconds=SECONDS)
            await load(replace(asked, at_most=WARM.keys))
            (pid,) = at.envoy.pids
            os.kill(pid, signal.SIGUSR1)
            outcome = await load(asked)
            os.kill(pid, signal.SIGUSR2)  # before the end, whose own work is none of a check
            await at.at.service.end()
        stats: Stats = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]  # it has no other way to them
    _print(stats, outcome.requests, sys.argv[1:])


def _print(stats: Stats, requests: int, wanted: Iterable[str]) -> None:
    whole = sum(own for _, _, own, _, _ in stats.values())
    words = tuple(wanted)
    lines = []
    for place, (_, calls, own, total, _) in sorted(stats.items(), key=lambda item: -item[1][2]):
        name = _name(*place)
        if not words or any(word in name for word in words):
            us = (f"{seconds * 1e6 / requests:.2f}" for seconds in (own, total))
            lines.append((f"{own / whole:.1%}", *us, f"{calls / requests:.2f}", name))
    table(("share", "own µs a check", "with callees", "calls a check", "function"), lines[:LINES])
    print(f"{requests} checks, {whole * 1e6 / requests:.0f} µs each under the profiler.")


def _name(file: str, line: int, function: str) -> str:
    for place in PLACES:
        file = file.rpartition(place)[2]
    return function if file == "~" else f"{file}:{line} {function}"


if __name__ == "__main__":
    asyncio.run(main())
