"""Histograms of plain numbers: to count in one of the client library locks, which is several times the price."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.core import Exemplar, HistogramMetricFamily


class Seen(NamedTuple):
    """One measured value, and the trace that it is part of. `at` in Unix seconds."""

    trace_id: str
    value: float
    at: float


class Distribution:
    """How many values fell between `bounds`, the last bucket being beyond them, and their sum."""

    __slots__ = ("_bounds", "_counts", "_seen", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._seen: dict[int, Seen] = {}

    def observe(self, value: float) -> None:
        """Counts a value; a bound belongs to the bucket that it ends."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_many(self, value: float, times: int) -> None:
        """Counts a value that came so often."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def add(self, counts: Sequence[int], total: float) -> None:
        """Adds what was counted elsewhere in the same buckets, and its sum."""
        self._counts = [one + other for one, other in zip(self._counts, counts, strict=True)]
        self._sum += total

    def trace(self, seen: Seen) -> None:
        """Keeps the trace of a value that was counted, as the example of its bucket."""
        self._seen[bisect_left(self._bounds, seen.value)] = seen

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> None:
        """Adds what was counted to a metric, under the values of its labels."""
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        counts = map(float, accumulate(self._counts))
        family.add_metric(
            list(labels),
            [
                (bound, count, exemplar(self._seen[place])) if place in self._seen else (bound, count)
                for place, (bound, count) in enumerate(zip(bounds, counts, strict=True))
            ],
            self._sum,
        )


def exemplar(seen: Seen) -> Exemplar:
    """A traced value as OpenMetrics has it."""
    return Exemplar({"trace_id": seen.trace_id}, seen.value, seen.at)


def traced(exemplar: Exemplar) -> Seen:
    """The same the other way round."""
    if not isinstance(exemplar.timestamp, float):
        raise TypeError("timestamp must be a float")
    return Seen(exemplar.labels["trace_id"], exemplar.value, exemplar.timestamp)


def histogram(name: str, documentation: str, distribution: Distribution) -> HistogramMetricFamily:
    """The metric of one distribution, without labels."""
    family = HistogramMetricFamily(name, documentation)
    distribution.add_to(family)
    return family


def histograms(
    name: str, documentation: str, label: str, distributions: Iterable[tuple[str, Distribution]]
) -> HistogramMetricFamily:
    """The metric of several distributions, by the value of one label."""
    family = HistogramMetricFamily(name, documentation, labels=[label])
    for value, distribution in distributions:
        distribution.add_to(family, [value])
    return family
