"""Records that were not used recently, as rows of bytes: about 128 for a key, where objects take a thousand.

A row lies on the shelf that its code points to, and a shelf is a page of memory: its codes, the times at which its rows
end, its rows. A full shelf gives up the row that ends first. So a look-up searches half a kilobyte, no index is kept,
and memory is taken from the system page by page, as it is used.
"""

import mmap
from collections.abc import Hashable
from struct import Struct
from typing import Generic, Protocol

from extauthz.service.directory.entry import Asked, Entry, Record

PAGE = 4096
CODE = 16  # bytes of a code
_FREE = bytes(CODE)
_UNTIL = Struct("<d")


class Rows(Protocol[Asked, Record]):
    """How records of one kind are named, and written into rows of `size` bytes.

    What rows share is counted: `pack` counts it in, `release` out.
    """

    @property
    def size(self) -> int:
        """Bytes of a row."""
        ...

    def name(self, asked: Asked) -> Hashable:
        """Return the name under which a record is held."""
        ...

    def code(self, name: Hashable) -> bytes:
        """Return sixteen bytes for a name, spread evenly; no two names have the same."""
        ...

    def pack(self, entry: Entry[Asked, Record]) -> bytes | None:
        """Return the row of an entry, without its `until`, use and epoch; None where it cannot be packed."""
        ...

    def unpack(self, asked: Asked, until: float, row: bytes) -> Entry[Asked, Record]:
        """Return the entry of a row, in no epoch: it is checked against all changes again."""
        ...

    def release(self, row: bytes) -> None:
        """Release what a removed row shares."""
        ...


class Packed(Generic[Asked, Record]):
    """Packed entries by name, at most `places` of them."""

    def __init__(self, rows: Rows[Asked, Record], *, places: int) -> None:
        self._rows = rows
        self._on_shelf = PAGE // (CODE + _UNTIL.size + rows.size)
        self._times_at = self._on_shelf * CODE
        self._rows_at = self._times_at + self._on_shelf * _UNTIL.size
        self._shelves = max(1, places // self._on_shelf)
        self._ends = Struct(f"<{self._on_shelf}d")
        self._memory = mmap.mmap(-1, self._shelves * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._count = 0
        self._next_shelf = 0

    def __len__(self) -> int:
        return self._count

    def put(self, name: Hashable, entry: Entry[Asked, Record]) -> None:
        """Keep an entry, in place of the one that ends first where its shelf is full. Its name must not be packed."""
        row = self._rows.pack(entry)
        if row is None:
            self._clear_shelf()  # so that rows which are not used do not keep their shared values for ever
            return
        code = self._rows.code(name)
        shelf = self._shelf(code)
        ends = self._ends.unpack_from(self._memory, shelf + self._times_at)
        place = ends.index(min(ends))  # a free place has no time
        if ends[place]:
            self._free(shelf, place)
        self._write(shelf, place, code, entry.until)
        at = self._row(shelf, place)
        self._memory[at : at + self._rows.size] = row
        self._count += 1

    def peek(self, name: Hashable, asked: Asked) -> Entry[Asked, Record] | None:
        """Return the entry of a name, which stays packed."""
        return self._found(name, asked, stays=True)

    def take(self, name: Hashable, asked: Asked) -> Entry[Asked, Record] | None:
        """Remove and return the entry of a name."""
        return self._found(name, asked, stays=False)

    def drop(self, name: Hashable) -> None:
        """Remove the entry of a name."""
        if self._count:
            code = self._rows.code(name)
            shelf = self._shelf(code)
            place = self._place(shelf, code)
            if place is not None:
                self._free(shelf, place)

    def _found(self, name: Hashable, asked: Asked, *, stays: bool) -> Entry[Asked, Record] | None:
        if not self._count:
            return None
        code = self._rows.code(name)
        shelf = self._shelf(code)
        place = self._place(shelf, code)
        if place is None:
            return None
        at = self._row(shelf, place)
        entry = self._rows.unpack(asked, self._until(shelf, place), self._memory[at : at + self._rows.size])
        if not stays:
            self._free(shelf, place)
        return entry

    def _free(self, shelf: int, place: int) -> None:
        at = self._row(shelf, place)
        self._rows.release(self._memory[at : at + self._rows.size])
        self._write(shelf, place, _FREE, 0.0)
        self._count -= 1

    def _clear_shelf(self) -> None:
        """Remove all rows of one shelf, of the next one each time."""
        shelf = self._next_shelf * PAGE
        self._next_shelf = (self._next_shelf + 1) % self._shelves
        for place, until in enumerate(self._ends.unpack_from(self._memory, shelf + self._times_at)):
            if until:
                self._free(shelf, place)

    def _shelf(self, code: bytes) -> int:
        return int.from_bytes(code[-4:], "big") % self._shelves * PAGE

    def _place(self, shelf: int, code: bytes) -> int | None:
        """Return the place of a code on its shelf; a match across two codes, or in a free place, does not count."""
        end = shelf + self._times_at
        at = self._memory.find(code, shelf, end)
        while at >= 0:
            place, beside = divmod(at - shelf, CODE)
            if not beside and self._until(shelf, place):
                return place
            at = self._memory.find(code, at + 1, end)
        return None

    def _until(self, shelf: int, place: int) -> float:
        until: float = _UNTIL.unpack_from(self._memory, shelf + self._times_at + place * _UNTIL.size)[0]
        return until

    def _row(self, shelf: int, place: int) -> int:
        return shelf + self._rows_at + place * self._rows.size

    def _write(self, shelf: int, place: int, code: bytes, until: float) -> None:
        at = shelf + place * CODE
        self._memory[at : at + CODE] = code
        _UNTIL.pack_into(self._memory, shelf + self._times_at + place * _UNTIL.size, until)
