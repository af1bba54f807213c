"""An owner's hash in Redis, as `scripts/layout.lua` keeps it: packed states, and counters by their names."""

import re
import struct
from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple

_VERSION = 1
_OWNER, _KEY = struct.Struct("<BdIdIdIdII"), struct.Struct("<BdIdIdddId")
STATE, HOUR = "state", "hour"
_OF_KEY = "state:"
_ONE = re.compile(r"[0-9]{1,16}", re.ASCII)
_THREE, _FOUR = (re.compile(" ".join([r"([0-9]{1,16})"] * count), re.ASCII) for count in (3, 4))


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


def hour_owner(name: str) -> str | None:
    """What stands behind the counter of an hour that a field holds: nothing, or `:<key>`; None for other fields."""
    return name.removeprefix(HOUR) if name == HOUR or name.startswith(HOUR + ":") else None


def is_packed(name: str) -> bool:
    """Whether a field is a packed state."""
    return name == STATE or name.startswith(_OF_KEY)


def by_name(fields: Mapping[str, bytes]) -> dict[str, str]:
    """Every bucket and counter of a hash as text under its own name, wherever it is kept; all else as it is.

    `bucket` and `bucket:<key>` are "level carry at", `d:<date>:<key>` "cost requests changes", other counters a cost:
    also those of hours, `h:<first second>`.
    Where fields were read at several moments, a counter may be in both places: the later one is told.
    """
    named = {name: value.decode("ascii", "replace") for name, value in fields.items() if not is_packed(name)}
    for name in list(named):
        suffix = hour_owner(name)
        found = None if suffix is None else four(named[name])
        if found is not None:
            named |= {f"h:{found[0]}{suffix}": str(found[1]), f"h:{found[2]}{suffix}": str(found[3])}
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
    """Three numbers that are kept together; None for malformed text, which counts as never written."""
    found = _THREE.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def four(text: str) -> tuple[int, int, int, int] | None:
    """Two hours, each a first second and a count; None for anything else, which counts as never written."""
    found = _FOUR.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]), int(found[4]))


def one(text: str) -> int:
    """A counter; malformed text counts as never written."""
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
