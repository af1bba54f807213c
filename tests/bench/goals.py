"""What was to be reached, as ratios where they can be: machines differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.cases import ALLOW, MALFORMED, NO_CREDENTIAL
from tests.bench.runs import Rows
from tests.bench.scale import HALF, LARGE, LARGE_EVENLY, ONE, OWN_CORES, SMALL, TEN_THOUSAND, TWO
from tests.bench.start import HELP, IMPORTS, READY, TYPER


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, what it was to be, and what it is."""

    name: str
    limit: float
    found: float
    at_least: bool = False
    judged: bool = True

    @property
    def verdict(self) -> str:
        """Whether it was met, or by how much it was missed."""
        if not self.judged:
            return "not judged: the load and the stores need the same cores"
        if (self.found >= self.limit) if self.at_least else (self.found <= self.limit):
            return "met"
        share = self.limit / self.found if self.at_least else self.found / self.limit
        return f"missed by {share - 1:.0%}" if share < 2 else f"missed by a factor of {share:,.1f}"


def judge(found: Mapping[str, Rows]) -> list[Goal]:
    """The goals of the parts that were measured."""
    rows = {name: figures for some in found.values() for name, figures in some.items()}
    return [goal for goal in _goals(rows) if goal is not None]


def _goals(rows: Rows) -> Iterator[Goal | None]:
    def figure(row: str, name: str) -> float | None:
        values = rows.get(row, {}).get(name)
        return median(values) if values else None

    def ratio(one: str, other: str) -> float | None:
        if one not in rows or other not in rows:
            return None
        return median(a / b for a, b in zip(rows[one]["rate"], rows[other]["rate"], strict=True))

    def beyond(one: str, other: str) -> float | None:
        whole, part = figure(one, "ms"), figure(other, "ms")
        return None if whole is None or part is None else whole - part

    yield _goal("CPU of an allowed check ÷ bare aiohttp", 0.45, [figure(ALLOW, "of_bare")])
    refusals = [figure(NO_CREDENTIAL, "of_bare"), figure(MALFORMED, "of_bare")]
    yield _goal("CPU of a 401 without look-up ÷ bare aiohttp", 0.3, refusals)
    yield _goal(f"requests/s of {LARGE} (Zipf) ÷ {SMALL}", 0.8, [ratio(LARGE, SMALL)], at_least=True)
    yield _goal("p99 at half of the saturation rate, ms", 3, [figure(HALF, "p99")])
    yield _goal("Redis commands per allowed check", 0.1, [figure(ALLOW, "scripts"), figure(ALLOW, "reads")])
    yield _goal(f"queries per 10,000 warm checks, {TEN_THOUSAND}", 5, [figure(TEN_THOUSAND, "queries")])
    yield _goal(f"memory of a worker after {LARGE}, MB", 150, [figure(LARGE_EVENLY, "memory")])
    yield _goal("requests/s of 2 workers ÷ 1", 1.8, [ratio(TWO, ONE)], at_least=True, judged=OWN_CORES)
    yield _goal("`extauthz --help` beyond `import typer`, ms", 150, [beyond(HELP, TYPER)])
    yield _goal("`extauthz serve` ready beyond its imports, ms", 500, [beyond(READY, IMPORTS)])


def _goal(
    name: str, limit: float, values: Sequence[float | None], *, at_least: bool = False, judged: bool = True
) -> Goal | None:
    """The goal, held against the largest of the values; none where one was not measured."""
    known = [value for value in values if value is not None]
    return Goal(name, limit, max(known), at_least, judged) if len(known) == len(values) else None
