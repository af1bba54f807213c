"""Checks that are counted in place, at the price of a few additions: CheckCounts adds them when metrics are read."""

from bisect import bisect_left
from collections.abc import Sequence

from extauthz.core.reason import Reason


class Times:
    """How many times, in seconds, fell into each bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class Tally:
    """Counts checks of one dialect. A CheckTally."""

    __slots__ = ("_bounds", "_first", "allowed", "durations", "identify", "limits", "reasons", "tokens")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are those of all buckets of seconds."""
        self._bounds = tuple(bounds)
        self._first = self._bounds[0]  # most times fall into the first bucket
        buckets = len(self._bounds) + 1
        self.allowed = self.tokens = 0
        self.reasons: dict[Reason, int] = {}
        self.durations, self.identify, self.limits = Times(buckets), Times(buckets), Times(buckets)

    def limited(self, seconds: float, identified_after: float, tokens: int) -> None:
        """A check was allowed by its limits, and took tokens."""
        self.allowed += 1
        self.tokens += tokens
        self._took(seconds, identified_after)

    def refused(self, reason: Reason, seconds: float, identified_after: float) -> None:
        """A check was refused by its limits."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        self._took(seconds, identified_after)

    def decided(self, reason: Reason, seconds: float) -> None:
        """A check was answered without asking limits."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        times = self.durations
        times.counts[0 if seconds <= self._first else bisect_left(self._bounds, seconds)] += 1
        times.total += seconds

    def take(self) -> "Tally":
        """What was counted, which begins anew."""
        taken, buckets = Tally(self._bounds), len(self._bounds) + 1
        taken.reasons, taken.tokens = self.reasons, self.tokens
        if self.allowed:
            taken.reasons[Reason.ALLOW] = taken.reasons.get(Reason.ALLOW, 0) + self.allowed
        taken.durations, taken.identify, taken.limits = self.durations, self.identify, self.limits
        self.allowed = self.tokens = 0
        self.reasons = {}
        self.durations, self.identify, self.limits = Times(buckets), Times(buckets), Times(buckets)
        return taken

    def _took(self, seconds: float, identified_after: float) -> None:
        first, bounds = self._first, self._bounds
        times = self.durations
        times.counts[0 if seconds <= first else bisect_left(bounds, seconds)] += 1
        times.total += seconds
        times = self.identify
        times.counts[0 if identified_after <= first else bisect_left(bounds, identified_after)] += 1
        times.total += identified_after
        rest, times = seconds - identified_after, self.limits
        times.counts[0 if rest <= first else bisect_left(bounds, rest)] += 1
        times.total += rest
