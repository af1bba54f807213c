"""Checks that are counted in place, at the price of a few additions: CheckCounts adds them when metrics are read."""

from bisect import bisect_right
from collections.abc import Sequence

from extauthz.core.reason import Reason

WAITING_MAX = 512  # times that wait to be put into their buckets, many for the price of a few


class Times:
    """How many times, in seconds, fell into each bucket, and their sum; once `sort` was called, all that were noted."""

    __slots__ = ("_bounds", "counts", "note", "total", "waiting")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.waiting: list[float] = []
        self.note = self.waiting.append

    def sort(self) -> None:
        """Puts what waits into the buckets: each bound is the largest time of its own."""
        times, counts, below = sorted(self.waiting), self.counts, 0
        self.waiting.clear()
        for place, bound in enumerate(self._bounds):
            up_to = bisect_right(times, bound, below)
            counts[place] += up_to - below
            below = up_to
        counts[-1] += len(times) - below
        self.total += sum(times)


class Tally:
    """Counts checks of one dialect. A CheckTally."""

    __slots__ = ("_bounds", "allowed", "durations", "identify", "limits", "reasons", "tokens")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are those of all buckets of seconds."""
        self._bounds = tuple(bounds)
        self.allowed = self.tokens = 0
        self.reasons: dict[Reason, int] = {}
        self.durations, self.identify, self.limits = (Times(self._bounds) for _ in range(3))

    def limited(self, seconds: float, identified_after: float, tokens: int) -> None:
        """A check was allowed by its limits, and took tokens."""
        self.allowed += 1
        self.tokens += tokens
        durations = self.durations
        durations.note(seconds)
        self.identify.note(identified_after)
        self.limits.note(seconds - identified_after)
        if len(durations.waiting) >= WAITING_MAX:
            self._sort()

    def refused(self, reason: Reason, seconds: float, identified_after: float) -> None:
        """A check was refused by its limits."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        # As in `limited`: a call in common would cost as much as what it does.
        durations = self.durations
        durations.note(seconds)
        self.identify.note(identified_after)
        self.limits.note(seconds - identified_after)
        if len(durations.waiting) >= WAITING_MAX:
            self._sort()

    def decided(self, reason: Reason, seconds: float) -> None:
        """A check was answered without asking limits."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        durations = self.durations
        durations.note(seconds)
        if len(durations.waiting) >= WAITING_MAX:
            self._sort()

    def take(self) -> "Tally":
        """What was counted since the last call."""
        self._sort()
        taken = Tally(self._bounds)
        taken.reasons, taken.tokens = self.reasons, self.tokens
        if self.allowed:
            taken.reasons[Reason.ALLOW] = taken.reasons.get(Reason.ALLOW, 0) + self.allowed
        taken.durations, taken.identify, taken.limits = self.durations, self.identify, self.limits
        self.allowed = self.tokens = 0
        self.reasons = {}
        self.durations, self.identify, self.limits = (Times(self._bounds) for _ in range(3))
        return taken

    def _sort(self) -> None:
        self.durations.sort()
        self.identify.sort()
        self.limits.sort()
