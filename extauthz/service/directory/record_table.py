"""The layer in this process: records that were read lately, and keys that nobody has. Bounded, whatever is asked."""

from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import replace
from time import monotonic
from typing import Generic

from extauthz.service.directory.entry import Asked, Entry, Record
from extauthz.service.directory.packed_rows import Packed

SPARED_AT_ONCE = 100  # so that no request waits for all of them to be looked at
UNKNOWN_MAX = 10_000
UNKNOWN_SECONDS = 1.0  # a key that was created a moment later works after that at the latest


class RecordTable(Generic[Asked, Record]):
    """Records by name: those in use as objects, the others packed. An entry is in one of the two places.

    What is not used while others come is packed, and is an object again, another one, once it is looked for. `get` is
    of the entries in use alone: it returns the same object as long as the entry is in use and unchanged.
    """

    def __init__(self, packed: Packed[Asked, Record], *, at_most: int) -> None:
        self._at_most = at_most
        self._packed = packed
        self._entries: dict[Hashable, Entry[Asked, Record]] = {}
        self._due: defaultdict[int, list[Hashable]] = defaultdict(list)  # by second of `renew_at`
        self._noted = 0
        self.get: Callable[[Hashable], Entry[Asked, Record] | None] = self._entries.get
        self.left: Callable[[Entry[Asked, Record]], None] = _nothing  # is told of entries that are in use no longer

    def __len__(self) -> int:
        return len(self._entries) + len(self._packed)

    def find(self, name: Hashable, asked: Asked) -> Entry[Asked, Record] | None:
        """The entry of a name, in use from now on."""
        entry = self._entries.get(name)
        if entry is None:
            entry = self._packed.take(name, asked)
            if entry is not None:
                self._hold(name, entry)
        return entry

    def copy(self, name: Hashable, asked: Asked) -> Entry[Asked, Record] | None:
        """A copy of the entry of a name, which stays where it is."""
        entry = self._entries.get(name)
        return self._packed.peek(name, asked) if entry is None else replace(entry)

    def keep(self, name: Hashable, entry: Entry[Asked, Record]) -> None:
        """Holds a record in place of an older one of that name."""
        self.drop(name)
        self._hold(name, entry)

    def drop(self, name: Hashable) -> None:
        """Removes a record."""
        before = self._entries.pop(name, None)
        if before is None:
            self._packed.drop(name)
        else:
            self.left(before)

    def take_due(self, now: float) -> list[tuple[Hashable, Entry[Asked, Record]]]:
        """The records in use whose time to be read anew has come by `now` (Unix seconds, to the second), each once."""
        seconds = [second for second in self._due if second + 1 <= now]
        names = [name for second in seconds for name in self._due.pop(second)]
        self._noted -= len(names)
        entries = {name: self._entries.get(name) for name in names}
        return [(name, e) for name, e in entries.items() if e is not None and e.renew_at <= now and e.used_at > 0]

    def postpone(self, name: Hashable, until: float) -> None:
        """Lets a record come due again later."""
        if name in self._entries:
            self._entries[name].renew_at = until
            self._note(name, until)

    def _hold(self, name: Hashable, entry: Entry[Asked, Record]) -> None:
        if len(self._entries) >= self._at_most:
            other, unused = self._least_used()
            self._packed.put(other, unused)
            self.left(unused)
        self._entries[name] = entry
        self._note(name, entry.renew_at)

    def _least_used(self) -> tuple[Hashable, Entry[Asked, Record]]:
        """Takes out the oldest, or one of the next that was not used since it was spared the last time."""
        for _ in range(SPARED_AT_ONCE):
            oldest = next(iter(self._entries))
            found = self._entries.pop(oldest)
            if found.used_at <= found.spared_at:
                return oldest, found
            found.spared_at = found.used_at
            self._entries[oldest] = found
        oldest = next(iter(self._entries))
        return oldest, self._entries.pop(oldest)

    def _note(self, name: Hashable, renew_at: float) -> None:
        self._due[int(renew_at)].append(name)
        self._noted += 1
        if self._noted > 2 * self._at_most:  # most of them have left
            self._due.clear()
            for held, entry in self._entries.items():
                self._due[int(entry.renew_at)].append(held)
            self._noted = len(self._entries)


def _nothing(_: object) -> None:
    pass


class NegativeCache:
    """Names that PostgreSQL did not have a moment ago, or whose record admits nothing. They push no record out."""

    def __init__(self, *, at_most: int = UNKNOWN_MAX, seconds: float = UNKNOWN_SECONDS) -> None:
        self._at_most = at_most
        self._seconds = seconds
        self._until: dict[Hashable, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def remember(self, name: Hashable, *, read_at: float, epoch: int) -> None:
        """`name` was refused when PostgreSQL was read at `read_at` (monotonic seconds), in that epoch of changes."""
        self._until.pop(name, None)
        self._until[name] = (read_at + self._seconds, epoch)
        if len(self._until) > self._at_most:
            del self._until[next(iter(self._until))]

    def borrow(self, other: "NegativeCache", name: Hashable) -> None:
        """Remembers of a name what another one does."""
        if name in other._until:
            self._until[name] = other._until[name]

    def holds(self, name: Hashable, epoch: int) -> bool:
        """Whether it would be no use to ask again yet: nothing at all has changed since."""
        until, then = self._until.get(name, (0.0, epoch))
        if epoch == then and monotonic() < until:
            return True
        self._until.pop(name, None)
        return False
