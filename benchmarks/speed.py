"""How fast the service is, and what a check costs: `make bench`.

Ratios count, made of medians of rounds in one run: the service and bare aiohttp take turns on the same core.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from benchmarks import cases, machine, rates, scale
from benchmarks.figures import goals_text, part_text
from benchmarks.goals import judge
from benchmarks.report import write
from benchmarks.runs import WRK, Rows
from benchmarks.stage import whole_stage
from benchmarks.start import start

PARTS = (
    *(*cases.KINDS, "connections", "rates", "half", "metrics"),
    *("traced", "cold", "scale", "queries", "bares", "start", "workers"),
)
QUICK = (*cases.KINDS, "connections", "rates", "half")
QUICK_CONNECTIONS = (1, 8)
QUICK_RATES = (rates.JUDGED_RATE,)
QUICK_KEYS = 10_000
ROOT = Path(__file__).parents[1]
REPORT = ROOT / "docs/explanation/performance"
ELSEWHERE = ROOT / ".venv/bench"  # of a part: not a report


async def main() -> None:
    """Measures, prints and writes."""
    told = _arguments()
    parts = told.only or (QUICK if told.quick else PARTS)
    rounds, seconds = (3, 1.0) if told.quick else (5, 2.0)
    about = machine.describe() | {
        "load generator": f"{WRK and 'wrk, at fixed rates '}benchmarks/client.py",
        "rounds": f"{rounds} of {seconds:g} s",
    }
    found: dict[str, Rows] = {}
    async for name, rows in _measure(parts, rounds=rounds, seconds=seconds, quick=told.quick):
        found[name] = rows
        print(part_text(name, rows), end="\n\n", flush=True)
    folder = told.out or (REPORT if parts == PARTS and not told.quick else ELSEWHERE)
    folder.mkdir(parents=True, exist_ok=True)
    goals = judge(found)
    (folder / "bench.json").write_text(json.dumps({"machine": about, "found": found}, indent=1))
    write(about, found, goals, folder)
    print(goals_text(goals))
    print(f"\nWritten to {folder}.")


async def _measure(
    parts: Collection[str], *, rounds: int, seconds: float, quick: bool
) -> AsyncIterator[tuple[str, Rows]]:
    """The tables of these parts, one after the other."""
    fewer = 3  # rounds, where there are many rows
    async with whole_stage() as at:
        if not set(cases.KINDS).isdisjoint(parts):
            yield "cases", await cases.cases(at, parts, rounds=rounds, seconds=seconds)
        if "connections" in parts:
            counts = QUICK_CONNECTIONS if quick else rates.CONNECTIONS
            yield "connections", await rates.connections(at, counts, rounds=fewer, seconds=seconds)
        if "rates" in parts:
            several = QUICK_RATES if quick else rates.RATES
            yield "rates", await rates.rates(at, several, rounds=rounds, seconds=seconds)
        if "half" in parts:
            yield "half", await rates.half(at, rounds=rounds, seconds=seconds)
        if "metrics" in parts:
            yield "metrics", await cases.metrics(at, rounds=rounds, seconds=seconds)
        if "traced" in parts:
            yield "traced", await cases.traced(at, rounds=fewer, seconds=seconds)
        if "cold" in parts:
            yield "cold", await cases.cold(at, rounds=rounds)
        if "scale" in parts:
            most = QUICK_KEYS if quick else scale.LARGEST
            yield "scale", await scale.populations(at, rounds=fewer, seconds=seconds, at_most=most)
        if "queries" in parts:
            yield "queries", await scale.queries(at)
        if "bares" in parts:
            yield "bares", await cases.bares(rounds=fewer, seconds=seconds)
        if "start" in parts:
            yield "start", await start(at)
    if "workers" in parts:
        yield "workers", await scale.workers(rounds=fewer, seconds=seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", metavar="PART,PART", default="", help=f"these parts alone: {' '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="shorter, and without what takes long")
    parser.add_argument("--out", type=Path, help="folder for JSON, report and charts")
    told = parser.parse_args()
    told.only = tuple(filter(None, told.only.split(",")))
    if unknown := set(told.only) - set(PARTS):
        parser.error(f"no such part: {' '.join(sorted(unknown))}")
    return told


if __name__ == "__main__":
    asyncio.run(main())
