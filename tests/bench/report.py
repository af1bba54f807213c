"""The report of a bench in Markdown, with its charts beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.chart import bars
from tests.bench.figures import ALL, COST, TIMES, grid, verdicts
from tests.bench.goals import Goal
from tests.bench.runs import Rows
from tests.bench.scale import OWN_CORES


class Part(NamedTuple):
    """A part of the report: its title, what is to be known of it, and the figure that its chart shows."""

    title: str
    text: str
    drawn: str


_SHARED = "" if OWN_CORES else " Here the workers share all cores with the load and the stores."
_PARTS = {
    "cases": Part(
        "What a request costs",
        "64 keep-alive connections; warm where the row says nothing else. `÷ bare` is the CPU of a request over that "
        'of an aiohttp `web.Application` handler which returns "ok", in the same round. `scripts` that Redis was asked '
        "to run and `reads by Redis` are per request, `SQL` per 10,000.",
        "cpu",
    ),
    "half": Part(
        "Latency at half of the saturation rate",
        "Requests are sent by a timetable, and each is late from the moment it was due.",
        "",
    ),
    "connections": Part("By connections", "Allowed checks, closed loop.", "rate"),
    "scale": Part(
        "By keys and organizations",
        "Keys are drawn by Zipf's law with exponent 1.1 where the row does not say evenly; caches are as one warm-up "
        "left them.",
        "rate",
    ),
    "workers": Part("By workers", f"Allowed checks.{_SHARED}", ""),
    "start": Part("Start", "Until the process has ended, or `/readyz` says ready.", ""),
}
_HEAD = """# What a check costs: the figures

Written by `make bench`; [performance.md](../performance.md) says how to read it. The service and bare aiohttp run on
one core and take turns; the load, PostgreSQL and Redis are elsewhere. Each cell is the median of the rounds, with its
range.
"""


def write(machine: Mapping[str, str], found: Mapping[str, Rows], goals: Sequence[Goal], folder: Path) -> None:
    """Writes `report.md` and its charts."""
    text = [_HEAD, _table(["", ""], [[name, value] for name, value in machine.items()])]
    if goals:
        text += ["## Goals\n", _table(*verdicts(goals))]
    for name, rows in found.items():
        part = _PARTS[name]
        text += [f"## {part.title}\n", f"{part.text}\n"]
        if part.drawn:
            title = f"{part.title}: {ALL[part.drawn].title}"
            values = {row: figures[part.drawn] for row, figures in rows.items()}
            (folder / f"{name}.svg").write_text(bars(title, values, form=ALL[part.drawn].form))
            text.append(f"![{title}]({name}.svg)\n")
        tables = [grid(rows, columns) for columns in (COST, TIMES)]
        text += [_table(headers, lines) for headers, lines in tables if headers[1:]]
    (folder / "report.md").write_text("\n".join(text))


def _table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [headers, ["---"] * len(headers), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
