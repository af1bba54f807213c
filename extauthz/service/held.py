"""The layer in this process: records that were read lately, and keys that nobody has. Bounded, whatever is asked."""

from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Generic, Protocol, TypeVar

from extauthz.core.changes import Thing

HELD_MAX = 20_000  # records of one kind: 40 to 120 MB of keys, by the size of their permissions
SPARED_AT_ONCE = 100  # so that no request waits for all of them to be looked at
UNKNOWN_MAX = 10_000
UNKNOWN_SECONDS = 1.0  # a key that was created a moment later works after that at the latest


class Dated(Protocol):
    """What a record of any kind says of its own making."""

    @property
    def loaded_at(self) -> float:
        """Unix seconds of the read of PostgreSQL."""
        ...

    @property
    def version(self) -> int:
        """The number of that read."""
        ...

    @property
    def made_of(self) -> tuple[Thing, ...]:
        """What must not have changed since."""
        ...

    @property
    def ends_at(self) -> float:
        """Unix seconds from which on it admits nothing; -inf where it never does, inf where it always does."""
        ...


Asked = TypeVar("Asked")
Record = TypeVar("Record", bound=Dated)


@dataclass(slots=True)
class Entry(Generic[Asked, Record]):
    """A record as this process holds it. `until`, `good_until`, `renew_at` and `used_at` in Unix seconds, the rest
    monotonic.

    It ends at `until` and at `ends` at the latest, so that no step of the clock prolongs it. It answers by itself until
    `good_until`, which is when what it admits ends; from then on it only stands in for PostgreSQL while that is away.
    """

    asked: Asked
    record: Record
    read_at: float  # when this process began to read it from PostgreSQL; -inf where another process did
    taken_at: float
    epoch: int  # of the fences that it has passed
    until: float
    good_until: float
    ends: float
    renew_at: float
    used_at: float
    spared_at: float = 0.0


class Held(Generic[Asked, Record]):
    """Records by name. Who is not used while others come has to leave first."""

    def __init__(self, *, at_most: int = HELD_MAX) -> None:
        self._at_most = at_most
        self._entries: dict[Hashable, Entry[Asked, Record]] = {}
        self._due: defaultdict[int, list[Hashable]] = defaultdict(list)  # by second of `renew_at`
        self._noted = 0
        self.get: Callable[[Hashable], Entry[Asked, Record] | None] = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, name: Hashable, entry: Entry[Asked, Record]) -> None:
        """Holds a record in place of an older one of that name."""
        self._entries.pop(name, None)
        self._entries[name] = entry
        self._note(name, entry.renew_at)
        if len(self._entries) > self._at_most:
            self._let_one_go()

    def drop(self, name: Hashable) -> None:
        """Forgets a record."""
        self._entries.pop(name, None)

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

    def _let_one_go(self) -> None:
        """The oldest leaves, or one of the next that was not used since it was spared the last time."""
        for _ in range(SPARED_AT_ONCE):
            oldest = next(iter(self._entries))
            found = self._entries.pop(oldest)
            if found.used_at <= found.spared_at:
                return
            found.spared_at = found.used_at
            self._entries[oldest] = found
        del self._entries[next(iter(self._entries))]

    def _note(self, name: Hashable, renew_at: float) -> None:
        self._due[int(renew_at)].append(name)
        self._noted += 1
        if self._noted > 2 * self._at_most:  # most of them have left
            self._due.clear()
            for held, entry in self._entries.items():
                self._due[int(entry.renew_at)].append(held)
            self._noted = len(self._entries)


class Unknown:
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

    def borrow(self, other: "Unknown", name: Hashable) -> None:
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
