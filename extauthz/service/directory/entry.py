"""An entry of the local cache: a record, and the times until which it is used."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from extauthz.core.changes import EntityRef


class Dated(Protocol):
    """What every record has: when it was read, and of what it is made."""

    @property
    def loaded_at(self) -> float:
        """Unix seconds of the read of PostgreSQL."""
        ...

    @property
    def version(self) -> int:
        """The number of that read."""
        ...

    @property
    def made_of(self) -> tuple[EntityRef, ...]:
        """The things that must not have changed since."""
        ...

    @property
    def ends_at(self) -> float:
        """Unix seconds from which on it admits nothing: -inf where it never does, inf where it always does."""
        ...


Asked = TypeVar("Asked")
Record = TypeVar("Record", bound=Dated)


@dataclass(slots=True)
class Entry(Generic[Asked, Record]):
    """A record as this process holds it.

    `until`, `good_until`, `renew_at`, `used_at` and `spared_at` are in Unix seconds, the other times are monotonic.

    It ends at `until` and at `ends` at the latest, so that no step of the clock prolongs it. It answers by itself until
    `good_until`, which is when what it admits ends; from then on it only stands in for PostgreSQL while that is away.
    """

    asked: Asked
    record: Record
    read_at: float  # when this process began to read it from PostgreSQL; -inf where another process did
    taken_at: float
    epoch: int  # of changes, in which it was admitted last
    until: float
    good_until: float
    ends: float
    renew_at: float
    used_at: float
    spared_at: float = 0.0
    remembered: tuple[bytes, ...] = ()  # names of checks that are remembered as long as this entry is in use
