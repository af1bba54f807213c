"""What has changed between two benches: `make bench-compare ARGS="A.json B.json"`.

A change counts where the ranges of the rounds do not touch; the others are printed only with --all.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import ALL, Figure, cell
from benchmarks.ground import table

LEAST = 0.02  # a smaller change is none
_SAID = ("cpu", "cores", "kernel", "python", "libraries", "load generator")


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__)
    parser.add_argument("a", type=Path, metavar="A.json")
    parser.add_argument("b", type=Path, metavar="B.json")
    parser.add_argument("--all", action="store_true", help="also what may be chance")
    told = parser.parse_args()
    a, b = (json.loads(file.read_text()) for file in (told.a, told.b))
    for name in _SAID:
        if a["machine"].get(name) != b["machine"].get(name):
            print(f"{name}: {a['machine'].get(name)} -> {b['machine'].get(name)}")
    lines = list(_changes(a["found"], b["found"], everything=told.all))
    if lines:
        table(("", "figure", "A", "B", "B ÷ A", ""), lines)
    else:
        print("Nothing has changed beyond the ranges of the rounds.")


def _changes(a: Any, b: Any, *, everything: bool) -> Iterator[tuple[str, ...]]:
    for part, rows in b.items():
        for row, figures in rows.items():
            before = a.get(part, {}).get(row, {})
            for name, figure in ALL.items():
                if before.get(name) and figures.get(name):
                    verdict = _verdict(figure, before[name], figures[name])
                    if verdict or everything:
                        old, new = median(before[name]), median(figures[name])
                        ratio = f"{new / old:.2f}" if old else ""
                        yield row, figure.title, cell(figure, before[name]), cell(figure, figures[name]), ratio, verdict


def _verdict(figure: Figure, before: list[float], after: list[float]) -> str:
    """`better` or `worse`; empty where it may be chance."""
    if min(before) <= max(after) and min(after) <= max(before):
        return ""
    old, new = median(before), median(after)
    if abs(new - old) <= LEAST * abs(old):
        return ""
    return "better" if (new > old) == figure.more_is_better else "worse"


if __name__ == "__main__":
    main()
