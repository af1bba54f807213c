"""What checks ask in the bytes that `scripts/spend.lua` takes, and its answer."""

import struct
from collections.abc import Sequence
from functools import lru_cache

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.errors import refusal, unavailable
from extauthz.core.calendar import NO_WINDOWS, CalendarWindows
from extauthz.core.errors import StoreUnavailable
from extauthz.core.limit_kinds import ALWAYS
from extauthz.core.limits import Limits
from extauthz.core.spend import FAILED, Owner, Row, Spend

SPEND = scripts.read(*scripts.CHARGING, "spend")
ROW = struct.Struct("<h3b8q")  # of each result
FURTHER_ROW = struct.Struct("<b2q")  # of each result of further quotas or credits
CREDITS_ROW = struct.Struct("<2q")  # of each result of credits, behind that
PLACES = struct.Struct("<5H")  # of each asked
NUMBERS = struct.Struct("<12d")  # of each kind of limits

_FURTHER = 8  # added to an operation: the numbers of further quotas are behind
_OPERATIONS = {"spend": 0, "peek": 1}


def command(asked: Sequence[Spend], epoch: str) -> tuple[list[str], list[int | str | bytes]]:
    """KEYS and ARGV of one call. What several of them have in common is in it once."""
    names: dict[str, int] = {}
    kinds: dict[bytes, int] = {}
    ids: dict[str, int] = {}
    calendars: dict[int, int] = {}  # by identity: hashing one costs as much as all the rest
    windows: list[CalendarWindows] = []
    places: list[bytes] = []
    for one in asked:
        own, calendar, once = one.windows, 0, 0
        if own is not None:
            calendar = calendars.get(id(own), 0)
            if not calendar:
                windows.append(own)
                calendar = calendars[id(own)] = len(windows)
        name, numbers = one.encoded or _encode(one)
        place = names.setdefault(name, len(names) + 1)
        if one.once:
            once = names.setdefault(keyspace.charge_once(one.owner.id, one.once), len(names) + 1)
        kind = kinds.setdefault(numbers, len(kinds) + 1)
        places.append(PLACES.pack(kind, place, ids.setdefault(one.key_id, len(ids) + 1), calendar, once))
    arguments: list[int | str | bytes] = [epoch, b"".join(places), b"".join(kinds), len(ids)]
    return list(names), [*arguments, *ids, *map(calendar_text, windows)]


def read_answer(
    asked: Sequence[Spend], now: int, rows: bytes, *failures: bytes
) -> tuple[int, list[Row | StoreUnavailable]]:
    """The answer of the script: its time (microseconds), and a row for each asked or why there is none."""
    basic = ROW.size * len(asked)
    results: list[Row | StoreUnavailable] = list(ROW.iter_unpack(rows if len(rows) == basic else rows[:basic]))
    if len(rows) > basic:
        at = basic
        for place, (one, row) in enumerate(zip(asked, ROW.iter_unpack(rows[:basic]), strict=True)):
            if one.encoded is None or len(one.encoded[1]) == NUMBERS.size:
                continue
            for further in (FURTHER_ROW, CREDITS_ROW) if one.credited else (FURTHER_ROW,):
                row += further.unpack_from(rows, at)  # noqa: PLW2901
                at += further.size
            results[place] = row
    if failures:
        words = iter(failures)
        for place, row in enumerate(ROW.iter_unpack(rows[:basic])):
            if row[0] == FAILED:
                results[place] = unavailable(refusal(next(words).decode(errors="replace")))
    return now, results


def _encode(asked: Spend) -> tuple[str, bytes]:
    """The hash of a spend and its numbers, which are the same in every call."""
    numbers = _numbers(_OPERATIONS[asked.operation], asked.cost, asked.limits, asked.key_limits)
    asked.encoded = _hash(asked.owner), numbers
    return asked.encoded


@lru_cache(maxsize=1024)  # plans are few, and what they have in common is kept once
def _numbers(operation: int, cost: int, limits: Limits, key_limits: Limits) -> bytes:
    counts = (*limits.further, *key_limits.further, limits.credits, key_limits.credits)
    further = [-1 if size is None else size for size in counts]
    if max(further) < 0:
        return NUMBERS.pack(operation, cost, *limit_numbers(limits), *limit_numbers(key_limits))
    basic = NUMBERS.pack(operation + _FURTHER, cost, *limit_numbers(limits), *limit_numbers(key_limits))
    return basic + NUMBERS.pack(*further, *(0,) * (12 - len(further)))


def _hash(owner: Owner) -> str:
    return keyspace.tenant_limits(owner.id) if owner.kind == "tenant" else keyspace.address_limits(owner.id)


@lru_cache(maxsize=1024)
def calendar_text(windows: CalendarWindows) -> str:
    """Three days and four bounds, three months and four bounds; four bounds of hours where they are counted."""
    spans = [
        " ".join([*(f"{day:%Y%m%d}" for day in span.dates[:3]), *map(str, span.bounds)])
        for span in (windows.days, windows.months)
    ]
    hours = [] if windows.hours is NO_WINDOWS else map(str, windows.hours.bounds)
    return " ".join([*spans, *hours])


@lru_cache(maxsize=4096)  # plans are few, checks are many
def limit_numbers(limits: Limits) -> tuple[int, ...]:
    """Tokens and seconds of the rate (0 tokens: no bucket), burst, quotas that are always counted (-1: none)."""
    rate = limits.rate
    bucket = (0, 1, 0) if rate is None else (rate.tokens, rate.seconds, limits.burst or 0)
    return (
        *bucket,
        *(-1 if size is None else size for size, always in zip(limits.quotas, ALWAYS, strict=True) if always),
    )
