"""The report of a bench in Markdown, with its charts beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.chart import bars
from benchmarks.figures import ALL, COST, TIMES, grid, verdicts
from benchmarks.goals import Goal
from benchmarks.runs import Rows
from benchmarks.scale import OWN_CORES


class Part(NamedTuple):
    """A part of the report: its title, what is to be known of it, and the figure that its chart shows."""

    title: str
    text: str
    drawn: str


_SHARED = "" if OWN_CORES else " Here the workers share all cores with the load and the stores."
_PARTS = {
    "cases": Part(
        "What a request costs",
        "64 keep-alive connections that ask again as soon as they are answered; warm. `bare` is an aiohttp "
        '`web.Application` whose handler returns "ok", sent the same requests; `÷ bare` is the CPU of a request over '
        "its own, in the same round. Where all differ, no path and no request id comes twice; one path has request ids "
        "that differ. `allow` has 1,000 keys of 100 organizations, `busy keys` 10 of 10, and `leases` the same 10 "
        "where `RATE_LIMIT_LEASES=auto`. `floor` writes a constant answer of that size to whatever it receives. "
        "`public, by address` is a public route with a bucket for each of 1,000 addresses: one window, no identity. "
        "`allow, bucket and quota` is a key whose organization has a bucket by the minute and a daily quota: two "
        "windows, and an identity. `scripts` that Redis was asked to run and `reads by Redis` are per request, `SQL` "
        "per 10,000.",
        "cpu",
    ),
    "connections": Part("By connections", "Allowed checks, each connection asking as soon as it is answered.", "cpu"),
    "rates": Part(
        "At fixed rates",
        "Requests are sent by a timetable over 64 connections, and each is late from the moment it was due, whether or "
        "not a connection was free. A row with fewer requests a second than its name says could not keep up.",
        "p99",
    ),
    "half": Part(
        "At half of the saturation rate",
        "First what the service can do, then half of that by a timetable, and bare aiohttp at the same rate.",
        "",
    ),
    "metrics": Part("What metrics cost", "The same service beside one whose counting at checks is taken out.", ""),
    "traced": Part("What traces cost", "The service without traces beside one that sends them.", ""),
    "cold": Part("Cold", "Keys and organizations that neither the worker nor Redis has seen.", ""),
    "scale": Part(
        "By keys and organizations",
        "Keys are drawn by Zipf's law with exponent 1.1; caches are as a warm-up of at most 300,000 requests left "
        "them. In the last row each key comes once, for at most 60 seconds.",
        "cpu",
    ),
    "queries": Part("What PostgreSQL is asked", "Warm, for longer than any record lasts.", ""),
    "bares": Part("Bare aiohttp and the floor", "In each form, on each loop.", ""),
    "workers": Part("By workers", f"Allowed checks.{_SHARED}", ""),
    "start": Part("Start", "Until the process has ended, or `/readyz` says ready.", ""),
}
_HEAD = """# What a check costs: the figures

Written by `make bench`; [performance.md](../performance.md) says how to read it. The service and bare aiohttp run on
one core and take turns. Each cell is the median of the rounds, with its range.
"""
_FULL = """Where a row says `load core full`, the load's core was in use for more than 95 % of the time, so the
rate is the load's and is not judged; the CPU of a check is.
"""


def write(machine: Mapping[str, str], found: Mapping[str, Rows], goals: Sequence[Goal], folder: Path) -> None:
    """Writes `report.md` and its charts."""
    text = [_HEAD, _FULL, _table(["", ""], [[name, value] for name, value in machine.items()])]
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
