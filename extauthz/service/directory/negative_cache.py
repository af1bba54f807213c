"""A negative cache: names that PostgreSQL did not have a moment ago."""

from collections.abc import Hashable
from time import monotonic

REFUSALS_MAX = 10_000
REFUSAL_TTL_SECONDS = 1.0  # after which a key that was created meanwhile works at the latest


class NegativeCache:
    """Names without a record, or whose record admits nothing. They evict no record."""

    def __init__(self, *, at_most: int = REFUSALS_MAX, ttl: float = REFUSAL_TTL_SECONDS) -> None:
        self._at_most = at_most
        self._ttl = ttl
        self._until: dict[Hashable, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, name: Hashable, *, read_at: float, epoch: int) -> None:
        """Keep a name; the read of PostgreSQL began at `read_at` (monotonic seconds), in that epoch of changes."""
        self._until.pop(name, None)
        self._until[name] = (read_at + self._ttl, epoch)
        if len(self._until) > self._at_most:
            del self._until[next(iter(self._until))]

    def copy_from(self, other: "NegativeCache", name: Hashable) -> None:
        """Keep a name as another cache does, if it does."""
        if name in other._until:
            self._until[name] = other._until[name]

    def holds(self, name: Hashable, epoch: int) -> bool:
        """Whether the name is kept: it has not ended, and nothing at all has changed since."""
        until, then = self._until.get(name, (0.0, epoch))
        if epoch == then and monotonic() < until:
            return True
        self._until.pop(name, None)
        return False
