"""What was dropped rather than waited for, by each part that may drop something."""

from collections.abc import Callable, Iterable
from typing import Literal, get_args

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.telemetry.checks import counter

Kind = Literal["decision_log", "tail", "spans"]
_WHAT: dict[Kind, str] = {
    "decision_log": "Lines of the decision log that were not written.",
    "tail": "Decisions that a reader of extauthz tail was too slow for.",
    "spans": "Spans that were not exported.",
}


class Drops(Collector):
    """Counts that are kept elsewhere, asked for when they are read; 0 where a part is off."""

    def __init__(self) -> None:
        self._counts: dict[Kind, list[Callable[[], int]]] = {kind: [] for kind in get_args(Kind)}

    def watch(self, kind: Kind, count: Callable[[], int]) -> None:
        """Adds what `count` returns, which never falls, to a metric."""
        self._counts[kind].append(count)

    def collect(self) -> Iterable[Metric]:
        """The metrics now."""
        for kind, counts in self._counts.items():
            yield counter(f"extauthz_{kind}_dropped", _WHAT[kind], sum(count() for count in counts))
