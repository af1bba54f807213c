"""How fast the service is, and what a check costs: `make bench`.

Ratios count, made of medians of rounds in one run: the service and bare aiohttp take turns on the same core.
"""

import argparse
import asyncio
import json
from collections.abc import Collection
from pathlib import Path

from tests.bench import machine, scale
from tests.bench.cases import KINDS, cases, cold, hold_against_bare
from tests.bench.figures import show
from tests.bench.goals import judge
from tests.bench.report import write
from tests.bench.runs import WRK, Rows, in_turn
from tests.bench.stage import stage
from tests.bench.start import start

PARTS = (*KINDS, "scale", "connections", "half", "workers", "start")
QUICK = (*KINDS, "half")
ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs/explanation/performance"
ELSEWHERE = ROOT / ".venv/bench"  # of a part: it is no report


async def main() -> None:
    """Measures, prints and writes."""
    told = _arguments()
    parts = told.only or (QUICK if told.quick else PARTS)
    rounds, seconds = (3, 1.0) if told.quick else (5, 2.0)
    machine_before = machine.describe()
    found = await _measure(parts, rounds=rounds, seconds=seconds, quick=told.quick)
    how = {"load generator": (WRK and "wrk") or "tests/bench/client.py", "rounds": f"{rounds} of {seconds:g} s"}
    folder = told.out or (REPORT if parts == PARTS else ELSEWHERE)
    folder.mkdir(parents=True, exist_ok=True)
    about, goals = machine_before | how, judge(found)
    (folder / "bench.json").write_text(json.dumps({"machine": about, "found": found}, indent=1))
    write(about, found, goals, folder)
    show(found, goals)
    print(f"\nWritten to {folder}.")


async def _measure(parts: Collection[str], *, rounds: int, seconds: float, quick: bool) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    async with stage() as at:
        async with cases(at, parts, seconds=seconds) as some:
            if some:
                found["cases"] = await in_turn(some, rounds=rounds)
        if "cold" in parts:
            found.setdefault("cases", {}).update(await in_turn([cold(at, rounds=rounds)], rounds=rounds))
        if "half" in parts:
            found["half"] = await scale.half(at, rounds=rounds, seconds=seconds)
        if "connections" in parts:
            found["connections"] = await scale.connections(at, rounds=3, seconds=seconds)
        if "scale" in parts:
            most = 10_000 if quick else 1_000_000
            found["scale"] = await scale.populations(at, rounds=3, seconds=seconds, at_most=most)
        if "start" in parts:
            found["start"] = await start(at)
    if "workers" in parts:
        found["workers"] = await scale.workers(rounds=3, seconds=seconds)
    hold_against_bare(found.get("cases", {}))
    return found


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
