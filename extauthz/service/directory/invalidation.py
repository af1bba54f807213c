"""What this process knows of changes: which records are too old to be believed, however they come in."""

from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import NamedTuple

from extauthz.core.changes import EVERYTHING, Change, EntityRef

UNHEARD = 5.0  # seconds that a held record is believed while messages of changes do not arrive
FENCES_MAX = 10_000  # a flood of changes beyond that puts one fence round everything


class _Fence(NamedTuple):
    version: int
    raised_at: float  # monotonic seconds
    until: float

    def joined(self, other: "_Fence") -> "_Fence":
        """One fence that keeps out what either does."""
        return _Fence(
            max(self.version, other.version), max(self.raised_at, other.raised_at), max(self.until, other.until)
        )


_NO_FENCE = _Fence(0, -inf, -inf)


class Invalidations:
    """Raised by changes, kept for `seconds`: as long as an older record can be anywhere.

    `epoch` counts changes, so that a record that was believed in this epoch need not be looked at again.
    """

    def __init__(self, *, seconds: float, at_most: int = FENCES_MAX) -> None:
        self.epoch = 0
        self._seconds = seconds
        self._at_most = at_most
        self._fences: dict[EntityRef, _Fence] = {}  # oldest first
        self._round_all = _NO_FENCE

    def __len__(self) -> int:
        return len(self._fences)

    def hear(self, change: Change) -> None:
        """From now on no record of `change.thing` that was read before the change is admitted."""
        now = monotonic()
        fence = _Fence(change.fence, now, now + self._seconds)
        if change.thing == EVERYTHING:
            self._round_all = self._round_all.joined(fence)
        else:
            before = self._fences.pop(change.thing, _NO_FENCE)
            self._fences[change.thing] = before.joined(fence)
        self.epoch += 1
        self._tidy(now)

    def admits(self, made_of: Iterable[EntityRef], version: int, read_at: float) -> bool:
        """Whether a record knows of every change that was heard.

        It does if its read has a higher version, or if this process itself began to read it (`read_at`, monotonic
        seconds; -inf for a record that came from elsewhere) after it had heard of the change.
        """
        for fence in (self._round_all, *(self._fences.get(thing, _NO_FENCE) for thing in made_of)):
            if version < fence.version and read_at < fence.raised_at:
                return False
        return True

    def _tidy(self, now: float) -> None:
        """Forgets what has ended; where there are too many, the oldest are kept as one fence round everything."""
        if self._round_all.until < now:
            self._round_all = _NO_FENCE
        while self._fences:
            thing, oldest = next(iter(self._fences.items()))
            if oldest.until >= now and len(self._fences) <= self._at_most:
                return
            del self._fences[thing]
            if oldest.until >= now:
                self._round_all = self._round_all.joined(oldest)


class Freshness:
    """Since when what this process holds is confirmed: while messages arrive, every change would have been heard."""

    def __init__(self) -> None:
        self._since = inf

    def flowing(self, flows: bool) -> None:
        """Messages of changes arrive from now on, or no longer."""
        self._since = monotonic() if flows else inf

    @property
    def since(self) -> float:
        """Records that were taken in before (monotonic seconds) have to be confirmed."""
        return self._since if self._since != inf else monotonic() - UNHEARD
