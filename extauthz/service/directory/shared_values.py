"""Values that many records share, kept once: permissions, limits, the terms of an organization."""

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

SHARED_VALUES_MAX = 20_000  # of one kind

Value = TypeVar("Value")


class _Kept(NamedTuple, Generic[Value]):
    name: Hashable
    value: Value


class SharedValues(Generic[Value]):
    """Values by number, with counts of the records that refer to them. A value without a reference is dropped."""

    def __init__(self, *, at_most: int = SHARED_VALUES_MAX) -> None:
        self._at_most = at_most
        self._numbers: dict[Hashable, int] = {}
        self._values: list[_Kept[Value] | None] = []
        self._counts: list[int] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Value:
        kept = self._values[number]
        if kept is None:
            raise LookupError(f"value {number} is not in use")
        return kept.value

    def count_in(self, name: Hashable, value: Value) -> int | None:
        """Add a reference to the value of a name; return its number, or None where there is no room for it."""
        number = self._numbers.get(name)
        if number is None:
            if len(self._numbers) >= self._at_most:
                return None
            number = self._numbers[name] = self._place()
            self._values[number] = _Kept(name, value)
        self._counts[number] += 1
        return number

    def count_out(self, number: int) -> None:
        """Remove a reference."""
        self._counts[number] -= 1
        kept = self._values[number]
        if self._counts[number] == 0 and kept is not None:
            del self._numbers[kept.name]
            self._values[number] = None
            self._free.append(number)

    def _place(self) -> int:
        if self._free:
            return self._free.pop()
        self._values.append(None)
        self._counts.append(0)
        return len(self._values) - 1
