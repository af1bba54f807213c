"""What was to be reached, in ratios where they can be, since machines differ; and how far a bench is from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.cases import (
    ADDRESSES,
    ALL_DIFFER,
    COLD_KEY,
    FLOOR,
    FORBIDDEN,
    MALFORMED_CREDENTIAL,
    MEASURED,
    NO_CREDENTIAL,
    ONE_PATH,
    SPENT,
    TWO_WINDOWS,
    UNMEASURED,
)
from benchmarks.rates import HALF, JUDGED_RATE, at_rate, over
from benchmarks.runs import Rows, load_is_full, pace
from benchmarks.scale import EACH_ONCE, LARGE, LONG_WARM, ONE, OWN_CORES, SMALL, TWO
from benchmarks.stage import allow_row, leases_row
from benchmarks.start import HELP, IMPORTS, READY, TYPER


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, what it was to be (None: it is printed to be compared), and what it is.

    `because` says why it is not judged; `by_cpu` that rates were not the server's, since the load's core was full.
    """

    name: str
    limit: float | None
    found: float
    at_least: bool = False
    because: str = ""
    by_cpu: bool = False

    @property
    def verdict(self) -> str:
        """Whether it was met, or by how much it was missed."""
        if self.because:
            return f"not judged: {self.because}"
        return self._met + (" (CPU)" if self.by_cpu else "")

    @property
    def wanted(self) -> str:
        """The limit as it is written; empty where there is none."""
        return "" if self.limit is None else f"{'≥' if self.at_least else '≤'} {self.limit:g}"

    @property
    def value(self) -> str:
        """What was found, as it is written."""
        return f"{self.found:,.0f}" if self.found >= 1_000 else f"{self.found:.3g}"

    @property
    def _met(self) -> str:
        if self.limit is None:
            return "printed"
        if (self.found >= self.limit) if self.at_least else (self.found <= self.limit):
            return "met"
        share = self.limit / self.found if self.at_least else self.found / self.limit
        return f"missed by {share - 1:.0%}" if share < 2 else f"missed {share:,.1f}-fold"


def judge(found: Mapping[str, Rows]) -> list[Goal]:
    """The goals of the parts that were measured."""
    rows = {name: figures for some in found.values() for name, figures in some.items()}
    return [goal for goal in (*_costs(rows), *_others(rows)) if goal is not None]


def _costs(rows: Rows) -> Iterator[Goal | None]:
    """What a check costs beside bare aiohttp, with and without leases, and the latency."""

    def bare(name: str, limit: float | None, *of: str, figure: str = "of_bare") -> Goal | None:
        return _goal(name, limit, [_median(rows, row, figure) for row in of])

    ways = ((ALL_DIFFER, 0.5, 0.4), (ONE_PATH, 0.4, 0.35), (over(8), 0.9, 0.5), (over(1), 1.3, 0.7))
    for way, limit, _ in ways:
        yield bare(f"allowed check ÷ bare, {way}", limit, allow_row(way))
    for way, _, limit in ways:
        yield bare(f"with leases ÷ bare, {way}", limit, leases_row(way))
    yield bare("floor ÷ bare", None, FLOOR)
    yield bare("401 ÷ bare", 0.28, NO_CREDENTIAL, MALFORMED_CREDENTIAL)
    yield bare("403 ÷ bare", 0.33, FORBIDDEN)
    yield bare("429 ÷ bare", 0.5, SPENT)
    yield bare("cold key ÷ bare", 5, COLD_KEY)
    yield bare(f"p99 ÷ bare's, {at_rate(JUDGED_RATE)}", 1.5, allow_row(at_rate(JUDGED_RATE)), figure="p99_of_bare")
    yield bare(f"p99 ÷ bare's, {HALF}", 2, allow_row(HALF), figure="p99_of_bare")


def _others(rows: Rows) -> Iterator[Goal | None]:
    allow, leases = allow_row(ALL_DIFFER), leases_row(ALL_DIFFER)
    yield _goal("Redis CPU per check, µs", 5, [_median(rows, allow, "redis")])
    yield _goal("Redis CPU per check with leases, µs", 1, [_median(rows, leases, "redis")])
    yield _paces(rows, "10⁶ keys, 10⁵ tenants ÷ 10 keys, rate", 0.8, LARGE, SMALL)
    seen = _median(rows, EACH_ONCE, "requests") or 0
    yield _goal(f"worker's MB, {seen:,.0f} keys seen", 150, [_median(rows, EACH_ONCE, "memory")])
    yield _goal("PostgreSQL queries, 10,000 warm checks", 5, [_median(rows, LONG_WARM, "queries")])
    yield _goal("cost of metrics, %", 5, [_beyond(rows, MEASURED, UNMEASURED)])
    for row, work in ((ADDRESSES, "one window, no key"), (TWO_WINDOWS, "two windows, a key")):
        if row in rows:
            figures = rows[row]
            yield Goal(f"checks/s on a core, {work}", None, median(pace(figures)), by_cpu=load_is_full(figures))
    yield _goal("scripts per allowed check", 0.1, [_median(rows, allow, "scripts")])
    workers = _paces(rows, "requests/s of 2 workers ÷ 1", 1.8, TWO, ONE)
    yield workers if workers is None or OWN_CORES else replace(workers, because="few cores", by_cpu=False)
    yield _goal("`extauthz --help` beyond typer, ms", 150, [_later(rows, HELP, TYPER)])
    yield _goal("`extauthz serve` beyond its imports, ms", 500, [_later(rows, READY, IMPORTS)])


def _median(rows: Rows, row: str, figure: str) -> float | None:
    values = rows.get(row, {}).get(figure)
    return median(values) if values else None


def _goal(name: str, limit: float | None, values: Sequence[float | None]) -> Goal | None:
    """The goal, held against the largest of the values; none where one was not measured."""
    known = [value for value in values if value is not None]
    return Goal(name, limit, max(known)) if len(known) == len(values) else None


def _paces(rows: Rows, name: str, limit: float, one: str, other: str) -> Goal | None:
    """A ratio of rates, round by round; of what CPU allows, where the load could not send more to either."""
    if one not in rows or other not in rows:
        return None
    by_cpu = load_is_full(rows[one]) or load_is_full(rows[other])
    figure = "cpu" if by_cpu else "rate"
    ratios = [a / b for a, b in zip(rows[one][figure], rows[other][figure], strict=True)]
    found = 1 / median(ratios) if by_cpu else median(ratios)
    return Goal(name, limit, found, at_least=True, by_cpu=by_cpu)


def _beyond(rows: Rows, one: str, other: str) -> float | None:
    """Percent by which a row's CPU is above another's, round by round."""
    if one not in rows or other not in rows:
        return None
    return 100 * (median(a / b for a, b in zip(rows[one]["cpu"], rows[other]["cpu"], strict=True)) - 1)


def _later(rows: Rows, one: str, other: str) -> float | None:
    whole, part = _median(rows, one, "ms"), _median(rows, other, "ms")
    return None if whole is None or part is None else whole - part
