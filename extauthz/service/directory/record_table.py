"""Records by name, in memory of a bounded size: those in use as objects, the others packed."""

from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Generic

from extauthz.service.directory.entry import Asked, Entry, Record
from extauthz.service.directory.packed_rows import Packed

EVICTION_LOOKS_MAX = 100  # entries that are looked at for one eviction, so that no request waits for all of them


class RecordTable(Generic[Asked, Record]):
    """Records in use as objects, at most `at_most` of them, and others packed. An entry is in one of the two places.

    An entry that was not used recently is packed when another one needs its place, and becomes a new object once it is
    looked for. `get` is of the entries in use alone: it returns the same object as long as the entry is in use and
    unchanged.
    """

    def __init__(
        self,
        packed: Packed[Asked, Record],
        *,
        at_most: int,
        evicted: Callable[[Entry[Asked, Record]], None] = lambda _: None,
    ) -> None:
        """`evicted` is called with each entry that is in use no longer."""
        self._at_most = at_most
        self._packed = packed
        self._evicted = evicted
        self._entries: dict[Hashable, Entry[Asked, Record]] = {}
        self._due: defaultdict[int, list[Hashable]] = defaultdict(list)  # by second of `renew_at`
        self._noted = 0
        self.get: Callable[[Hashable], Entry[Asked, Record] | None] = self._entries.get

    def __len__(self) -> int:
        return len(self._entries) + len(self._packed)

    def find(self, name: Hashable, asked: Asked) -> Entry[Asked, Record] | None:
        """Return the entry of a name, in use from now on."""
        entry = self._entries.get(name)
        if entry is None:
            entry = self._packed.take(name, asked)
            if entry is not None:
                self._hold(name, entry)
        return entry

    def copy(self, name: Hashable, asked: Asked) -> Entry[Asked, Record] | None:
        """Return a copy of the entry of a name, which stays where it is."""
        entry = self._entries.get(name)
        return self._packed.peek(name, asked) if entry is None else replace(entry)

    def keep(self, name: Hashable, entry: Entry[Asked, Record]) -> None:
        """Hold an entry in place of an older one of that name."""
        self.drop(name)
        self._hold(name, entry)

    def drop(self, name: Hashable) -> None:
        """Remove an entry."""
        before = self._entries.pop(name, None)
        if before is None:
            self._packed.drop(name)
        else:
            self._evicted(before)

    def take_due(self, now: float) -> list[tuple[Hashable, Entry[Asked, Record]]]:
        """Return the entries in use that are to be renewed by `now` (Unix seconds, to the second), each once."""
        seconds = [second for second in self._due if second + 1 <= now]
        names = [name for second in seconds for name in self._due.pop(second)]
        self._noted -= len(names)
        entries = {name: self._entries.get(name) for name in names}
        return [(name, e) for name, e in entries.items() if e is not None and e.renew_at <= now and e.used_at > 0]

    def postpone(self, name: Hashable, until: float) -> None:
        """Let an entry be due again later."""
        if name in self._entries:
            self._entries[name].renew_at = until
            self._note(name, until)

    def _hold(self, name: Hashable, entry: Entry[Asked, Record]) -> None:
        if len(self._entries) >= self._at_most:
            other, unused = self._least_used()
            self._packed.put(other, unused)
            self._evicted(unused)
        self._entries[name] = entry
        self._note(name, entry.renew_at)

    def _least_used(self) -> tuple[Hashable, Entry[Asked, Record]]:
        """Take out the oldest entry, or one of the next that was not used since it was spared the last time."""
        for _ in range(EVICTION_LOOKS_MAX):
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
        if self._noted > 2 * self._at_most:  # most of them are in use no longer
            self._due.clear()
            for held, entry in self._entries.items():
                self._due[int(entry.renew_at)].append(held)
            self._noted = len(self._entries)
