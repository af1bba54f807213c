"""Where the CPU of a check goes: `make bench-profile`, functions by what they use themselves.

The process is interrupted every two milliseconds of its CPU, which costs next to nothing, and its stack is counted.
What C code uses between two steps of Python is counted for the step after it: the loop's own reading and waiting for
the first line of the callback that follows. With --calls a profiler counts calls instead; it makes every call of
Python dearer than it is.
"""

import argparse
import asyncio
import json
import os
import pstats
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.cases import ASKED
from benchmarks.ground import table
from benchmarks.hooks import sitecustomize
from benchmarks.leases import LEASES
from benchmarks.runs import load
from benchmarks.stage import stage
from extauthz.demo.folders import temporary_folder

SECONDS = 10.0
LINES = 40
HOOK = Path(__file__).with_name("hooks")
PLACES = (
    "site-packages/",
    f"{Path(asyncio.__file__).parents[1]}/",
    f"{HOOK.parents[1]}/",
)  # what paths are shown without

Stats = Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]]
Stack = Sequence[tuple[str, int, str, int]]


async def main() -> None:
    """Measures and prints."""
    told = _arguments()
    with temporary_folder("extauthz bench ") as folder:
        file, way = folder / "profile", "BENCH_PROFILE" if told.calls else "BENCH_SAMPLES"
        more = {"PYTHONPATH": str(HOOK), way: str(file)} | (LEASES if told.leases else {})
        async with stage(workers=1, cores=machine.SERVED, **more) as at:
            asked = replace(ASKED[told.ask](at), seconds=SECONDS)
            await load(replace(asked, at_most=10_000))
            (pid,) = at.envoy.pids
            os.kill(pid, sitecustomize.BEGIN)
            before = machine.times(pid)
            outcome = await load(asked)
            used = [after - then for after, then in zip(machine.times(pid), before, strict=True)]
            os.kill(pid, sitecustomize.END)  # before the end, whose own work is none of a check
            await at.at.service.end()
        user, system = (seconds * 1e6 / outcome.requests for seconds in used)
        if told.calls:
            _print_calls(pstats.Stats(str(file)).stats, outcome.requests, told.words)  # type: ignore[attr-defined]
        else:
            _print_samples(json.loads(file.read_text()), user + system, told.words, lines=told.lines)
    print(
        f"{outcome.requests} checks, {user + system:.1f} µs of CPU each:"
        f" {user:.1f} in the process, {system:.1f} in the kernel for it."
    )


def _print_samples(counts: Sequence[tuple[Stack, int]], micros: float, words: Collection[str], *, lines: bool) -> None:
    own, total = Counter[str](), Counter[str]()
    for stack, count in counts:
        names = [_name(file, line if lines else first, name) for file, first, name, line in stack]
        own[names[0]] += count
        for name in set(names):
            total[name] += count
    whole = own.total()
    rows = [
        (f"{own[name] / whole:.1%}", *(f"{some[name] * micros / whole:.2f}" for some in (own, total)), name)
        for name in _wanted(own if lines else total, words)
    ]
    rows.sort(key=lambda row: -float(row[1]))
    table(("share", "own µs", "with callees", "line" if lines else "function"), rows[:LINES])


def _print_calls(stats: Stats, requests: int, words: Collection[str]) -> None:
    whole = sum(own for _, _, own, _, _ in stats.values())
    named = {_name(*place): figures for place, figures in sorted(stats.items(), key=lambda item: -item[1][2])}
    rows = []
    for name in _wanted(named, words):
        _, calls, own, total, _ = named[name]
        us = (f"{seconds * 1e6 / requests:.2f}" for seconds in (own, total))
        rows.append((f"{own / whole:.1%}", *us, f"{calls / requests:.2f}", name))
    table(("share", "own µs", "with callees", "calls", "function"), rows[:LINES])


def _wanted(names: Iterable[str], words: Collection[str]) -> Iterator[str]:
    return (name for name in names if not words or any(word in name for word in words))


def _name(file: str, line: int, function: str) -> str:
    for place in PLACES:
        file = file.rpartition(place)[2]
    return function if file == "~" else f"{file}:{line} {function}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-profile", description=__doc__)
    parser.add_argument("words", nargs="*", help="functions or files to show: all whose names contain one of these")
    parser.add_argument("--ask", choices=ASKED, default="different", help="what is asked for")
    parser.add_argument("--leases", action="store_true", help="with leases")
    parser.add_argument("--lines", action="store_true", help="lines instead of functions")
    parser.add_argument("--calls", action="store_true", help="count calls, with a profiler")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
