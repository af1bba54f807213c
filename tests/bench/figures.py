"""The figures of a run: what each is called, in which unit, and how it is written."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from tests.bench.goals import Goal
from tests.bench.ground import table
from tests.bench.runs import Rows


class Figure(NamedTuple):
    """A column."""

    title: str
    form: str = ",.1f"
    more_is_better: bool = False


COST = {
    "rate": Figure("requests/s", ",.0f", more_is_better=True),
    "cpu": Figure("CPU µs a request"),
    "of_bare": Figure("÷ bare", ".2f"),
    "redis": Figure("Redis µs"),
    "scripts": Figure("scripts", ".3f"),
    "reads": Figure("reads by Redis", ".3f"),
    "queries": Figure("SQL in 10,000"),
    "ms": Figure("ms", ",.0f"),
}
TIMES = {
    "p50": Figure("p50 ms", ".2f"),
    "p90": Figure("p90 ms", ".2f"),
    "p99": Figure("p99 ms", ".2f"),
    "p999": Figure("p99.9 ms", ".2f"),
    "memory": Figure("memory MB"),
    "found": Figure("found in process %", more_is_better=True),
    "others": Figure("other answers %", ".2f"),
}
ALL = COST | TIMES


def grid(rows: Rows, columns: Mapping[str, Figure]) -> tuple[list[str], list[list[str]]]:
    """Headers and lines of a table: median and range of each figure that any row has."""
    used = [name for name in columns if any(name in figures for figures in rows.values())]
    lines = [[name, *(cell(columns[each], figures.get(each)) for each in used)] for name, figures in rows.items()]
    return ["", *(columns[name].title for name in used)], lines


def cell(figure: Figure, values: Sequence[float] | None) -> str:
    """Median and range, as in `24.1 (23.7-25.0)`."""
    if not values:
        return ""
    low, middle, high = (f"{value:{figure.form}}" for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def verdicts(goals: Sequence[Goal]) -> tuple[list[str], list[list[str]]]:
    """Headers and lines of the table of goals."""
    return ["figure", "goal", "found", ""], [
        [goal.name, f"{'≥' if goal.at_least else '≤'} {goal.limit:g}", f"{goal.found:.3g}", goal.verdict]
        for goal in goals
    ]


def show(found: Mapping[str, Rows], goals: Sequence[Goal]) -> None:
    """Prints it all."""
    for rows in found.values():
        for columns in (COST, TIMES):
            headers, lines = grid(rows, columns)
            if headers[1:]:
                print()
                table(headers, lines)
    if goals:
        print()
        table(*verdicts(goals))
