"""The figures of a run: what each is called, in which unit, and how it is written."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.goals import Goal
from benchmarks.runs import Rows, load_is_full


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
    "p99_of_bare": Figure("p99 ÷ bare's", ".2f"),
    "memory": Figure("memory MB"),
    "found": Figure("found in process %", more_is_better=True),
    "others": Figure("other answers %", ".2f"),
    "load": Figure("load's core %", ".0f"),
}
ALL = COST | TIMES
# On a terminal: medians alone, in 80 columns.
_SHORT = {
    "rate": "req/s",
    "cpu": "CPU µs",
    "of_bare": "÷ bare",
    "redis": "Redis",
    "p50": "p50 ms",
    "p99": "p99 ms",
    "p99_of_bare": "÷",
    "ms": "ms",
}
FULL = "load core full"


def grid(rows: Rows, columns: Mapping[str, Figure]) -> tuple[list[str], list[list[str]]]:
    """Headers and lines of a table: median and range of each figure that any row has."""
    used = [name for name in columns if any(name in figures for figures in rows.values())]
    lines = [[name, *(_cell(columns, each, figures) for each in used)] for name, figures in rows.items()]
    return ["", *(columns[name].title for name in used)], lines


def cell(figure: Figure, values: Sequence[float] | None) -> str:
    """Median and range, as in `24.1 (23.7-25.0)`."""
    if not values:
        return ""
    low, middle, high = (f"{value:{figure.form}}" for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def verdicts(goals: Sequence[Goal]) -> tuple[list[str], list[list[str]]]:
    """Headers and lines of the table of goals."""
    return ["figure", "goal", "found", ""], [[goal.name, goal.wanted, goal.value, goal.verdict] for goal in goals]


def part_text(name: str, rows: Rows) -> str:
    """A part's rows for a terminal: medians, in at most 80 columns, with a mark where the rate is the load's."""
    used = [each for each in _SHORT if any(each in figures for figures in rows.values())]
    full = [row for row, figures in rows.items() if "load" in figures and load_is_full(figures)]
    lines = [
        [row + (" *" if row in full else ""), *(_middle(figures.get(each)) for each in used)]
        for row, figures in rows.items()
    ]
    lines.insert(0, [name, *(_SHORT[each] for each in used)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    return "\n".join([*text, *([f"* {FULL}: the rate is the load's, not the server's"] if full else [])])


def goals_text(goals: Sequence[Goal]) -> str:
    """The goals for a terminal, in at most 80 columns."""
    headers, lines = verdicts(goals)
    widths = [max(map(len, column)) for column in zip(headers, *lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in (headers, *lines))


def _cell(columns: Mapping[str, Figure], name: str, figures: Mapping[str, Sequence[float]]) -> str:
    text = cell(columns[name], figures.get(name))
    return f"{text}, {FULL}" if text and name == "rate" and load_is_full(figures) else text


def _middle(values: Sequence[float] | None) -> str:
    if not values:
        return ""
    value = median(values)
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"
