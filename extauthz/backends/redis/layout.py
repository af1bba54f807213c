"""An owner's hash in Redis, as `scripts/layout.lua` keeps it: packed states, and counters by their names."""

import re
import struct
from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple

_VERSION = 1
_OWNER, _KEY = struct.Struct("<BdIdIdIdII"), struct.Struct("<BdIdIdddId")
STATE = "state"
_OF_KEY = "state:"
_THREE, _ONE = re.compile(r"([0-9]{1,16}) ([0-9]{1,16}) ([0-9]{1,16})", re.ASCII), re.compile(r"[0-9]{1,16}", re.ASCII)


class _Packed(NamedTuple):
    """A bucket, and what was charged on a day and in a month; a date of 0, a level below 0: none."""

    bucket: tuple[int, int, int]
    day: int
    charged: tuple[int, int, int]
    month: int
    by_month: int


def state_field(key_id: str) -> str:
    """The field of a key's packed state."""
    return _OF_KEY + key_id


def is_packed(name: str) -> bool:
    """Whether a field is a packed state."""
    return name == STATE or name.startswith(_OF_KEY)


def by_name(fields: Mapping[str, bytes]) -> dict[str, str]:
    """Every bucket and counter of a hash as text under its own name, wherever it is kept; all else as it is.

    `bucket` and `bucket:<key>` are "level carry at", `d:<date>:<key>` "cost requests changes", other counters a cost.
    Where fields were read at several moments, a counter may be in both places: the later one is told.
    """
    named = {name: value.decode("ascii", "replace") for name, value in fields.items() if not is_packed(name)}
    for name, value in fields.items():
        state = _unpacked(name, value) if is_packed(name) else None
        if state is None:
            continue
        suffix = name.removeprefix(STATE)
        if state.bucket[0] >= 0:
            named["bucket" + suffix] = _text(state.bucket)
        if suffix and state.day and any(state.charged):
            field = f"d:{state.day}{suffix}"
            named[field] = _text(max(state.charged, three(named.get(field, "")) or state.charged, key=itemgetter(2)))
        if state.month and state.by_month:
            field = f"m:{state.month}{suffix}"
            named[field] = str(max(state.by_month, one(named.get(field, ""))))
    return named


def three(text: str) -> tuple[int, int, int] | None:
    """Three numbers that are kept together; None for what makes no sense, which counts as never written."""
    found = _THREE.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def one(text: str) -> int:
    """A counter; what makes no sense counts as never written."""
    return int(text) if _ONE.fullmatch(text) else 0


def _unpacked(name: str, value: bytes) -> _Packed | None:
    form = _OWNER if name == STATE else _KEY
    if len(value) != form.size:
        return None
    version, *numbers = form.unpack(value)
    if version != _VERSION or not all(-1 <= number <= 9e15 for number in numbers):
        return None
    level, carry, at, day, *rest = map(int, numbers)
    if name == STATE:
        return _Packed((level, carry, at), day, (rest[0], 0, 0), rest[1], rest[2])
    return _Packed((level, carry, at), day, (rest[0], rest[1], rest[2]), rest[3], rest[4])


def _text(numbers: tuple[int, int, int]) -> str:
    return " ".join(map(str, numbers))
