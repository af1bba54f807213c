"""What many records have in common, kept once: permissions, limits, the terms of an organization."""

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

PARTS_MAX = 20_000  # of one kind

Value = TypeVar("Value")


class _Part(NamedTuple, Generic[Value]):
    name: Hashable
    value: Value


class Parts(Generic[Value]):
    """Values by number. A value stays as long as it is counted in more often than out."""

    def __init__(self, *, at_most: int = PARTS_MAX) -> None:
        self._at_most = at_most
        self._numbers: dict[Hashable, int] = {}
        self._parts: list[_Part[Value] | None] = []
        self._counts: list[int] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Value:
        part = self._parts[number]
        if part is None:
            raise LookupError(f"part {number} is not in use")
        return part.value

    def count_in(self, name: Hashable, value: Value) -> int | None:
        """The number of the value with that name, which equal values share; None where there is no room for it."""
        number = self._numbers.get(name)
        if number is None:
            if len(self._numbers) >= self._at_most:
                return None
            number = self._numbers[name] = self._place()
            self._parts[number] = _Part(name, value)
        self._counts[number] += 1
        return number

    def count_out(self, number: int) -> None:
        """One record refers to the value no longer."""
        self._counts[number] -= 1
        part = self._parts[number]
        if self._counts[number] == 0 and part is not None:
            del self._numbers[part.name]
            self._parts[number] = None
            self._free.append(number)

    def _place(self) -> int:
        if self._free:
            return self._free.pop()
        self._parts.append(None)
        self._counts.append(0)
        return len(self._parts) - 1
