"""Checks as they are decided, for live tails. While there is no tail, none is even rendered."""

from collections.abc import Callable, Mapping, Sequence

from extauthz.core.check_result import CheckResult
from extauthz.core.tail import TailFilter
from extauthz.telemetry.decision_record import DecisionRecords

Send = Callable[[Sequence[int], bytes], None]


class TailObserver:
    """Hands the lines of checks that a tail wants to `send`, with the numbers of the tails; an observer of checks."""

    def __init__(self, records: DecisionRecords, send: Send) -> None:
        self._records = records
        self._send = send
        self._filters: Mapping[int, TailFilter] = {}
        self.watching = False  # every check is wanted

    def watch(self, filters: Mapping[int, TailFilter]) -> None:
        """From now on these tails are there, by their numbers."""
        self._filters = filters
        self.watching = bool(filters)

    def decided(self, result: CheckResult) -> None:
        """Hands a check on to the tails that want it."""
        if self._filters:
            wanted = [number for number, only in self._filters.items() if only.admits(result)]
            if wanted:
                self._send(wanted, self._records.line(result))
