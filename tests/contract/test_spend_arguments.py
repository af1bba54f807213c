"""The spend script rejects bad numbers, places, calendars and missing arguments before it charges."""

import math
import struct

import pytest
from redis.asyncio import Redis as RedisClient
from redis.exceptions import ResponseError

from extauthz.backends.redis.spends import SPEND
from tests.servers.limiting import HASH, KEY, hash_of

ROW, PLACES, NUMBERS_OF = struct.Struct("<hbbbqqqqqqqq"), struct.Struct("<HHHHH"), struct.Struct("<dddddddddddd")
CALENDAR = "20270114 20270115 20270116 0 1 4000000000 4000000000 20261201 20270101 20270201 0 1 4000000000 4000000000"
NUMBERS = (0, 1, 10, 1, 20, -1, 5, 0, 1, 0, -1, -1)
BAD = [-2.0, 1.5, math.nan, math.inf, -math.inf, 2.0**53 + 2, 1e300]
OUT_OF_RANGE: list[tuple[int, float]] = [(1, 0), (1, -1), (1, 10**9 + 1), (0, 2), (0, -1), (2, -1), (2, 10**15 + 1)]
OUT_OF_RANGE += [(3, 0), (3, 864_001), (4, -1), (4, 10**9 + 1), (5, 10**12 + 1), (8, 0)]
GOOD = PLACES.pack(1, 1, 1, 1, 0) + PLACES.pack(1, 2, 1, 1, 0)


def numbers(*replaced: tuple[int, float]) -> bytes:
    """The numbers of a kind of limit."""
    changed = dict(replaced)
    return NUMBERS_OF.pack(*(changed.get(position, number) for position, number in enumerate(NUMBERS)))


async def run(redis: RedisClient, *arguments: bytes | str | int) -> list[object]:
    """One call for two tenants, the arguments behind the epoch; its reply."""
    reply: list[object] = await redis.eval(SPEND, 2, "tenant_limits:{good}", HASH, "0", *arguments)
    return reply


async def harmless(redis: RedisClient, *arguments: bytes | str | int) -> str:
    """The text of a call's error, after which no tenant's state has changed."""
    await redis.hset("tenant_limits:{good}", mapping={"seeded": "0"})
    await redis.set(HASH, "even a state of the wrong type stays")
    with pytest.raises(ResponseError) as caught:
        await run(redis, *arguments)
    assert await redis.get(HASH) == b"even a state of the wrong type stays"
    assert await hash_of(redis, "tenant_limits:{good}") == {"seeded": "0"}
    return str(caught.value)


@pytest.mark.parametrize("position", range(12))
async def test_a_bad_number(redis: RedisClient, position: int) -> None:
    """Zero and negative costs, fractions, `nan`, infinities, numbers that no double holds: nothing is charged."""
    places = PLACES.pack(1, 1, 1, 1, 0) + PLACES.pack(2, 2, 1, 1, 0)
    for value in [*BAD, *(bad for place, bad in OUT_OF_RANGE if place == position)]:
        refused = await harmless(redis, places, numbers() + numbers((position, value)), 1, KEY, CALENDAR)
        assert "whole number" in refused, value


@pytest.mark.parametrize("value", [-2, "1.5", "1e3", "nan", "inf", "", "x", str(2**53 + 2), 3])
async def test_a_bad_number_of_ids(redis: RedisClient, value: str | int) -> None:
    """The count of ids must be a whole number, and as many ids must follow."""
    await harmless(redis, GOOD, numbers(), value, KEY, CALENDAR)


@pytest.mark.parametrize("place", range(5))
async def test_references_to_missing_arguments(redis: RedisClient, place: int) -> None:
    """References to limits, hashes, ids, calendars or marks that are not in the call are rejected uncharged."""
    beyond = [1, 2, 1, 1, 0]
    beyond[place] = 9
    places = PLACES.pack(1, 1, 1, 1, 0) + PLACES.pack(*beyond)
    assert "place" in await harmless(redis, places, numbers(), 1, KEY, CALENDAR)
    for cut in (places[:-1], places + b"\0"):
        assert "bytes" in await harmless(redis, cut, numbers(), 1, KEY, CALENDAR)
    assert "bytes" in await harmless(redis, GOOD, numbers()[:-1], 1, KEY, CALENDAR)


@pytest.mark.parametrize(
    "calendar",
    ["", CALENDAR[9:], CALENDAR + " 1", CALENDAR.replace("2026", "26"), CALENDAR.replace("4000000000", "4000000001")]
    + [
        CALENDAR.replace(" 1 ", f" {value} ", 1)
        for value in ("-2", "1.5", "1e3", "nan", "inf", "", "x", str(2**53 + 1), "9" * 400, "1 1")
    ],
)
async def test_a_bad_calendar(redis: RedisClient, calendar: str) -> None:
    """Invalid days and months are rejected before anything is charged."""
    await harmless(redis, GOOD, numbers(), 1, KEY, calendar)


@pytest.mark.parametrize("count", range(5))
async def test_a_missing_argument(redis: RedisClient, count: int) -> None:
    """Too few arguments are rejected before anything is written; the full list is accepted."""
    right = (GOOD, numbers(), 1, KEY, CALENDAR)
    await harmless(redis, *right[:count])
    await redis.delete(HASH)
    reply = await run(redis, *right)
    assert isinstance(reply[1], bytes)
    assert [row[0] for row in ROW.iter_unpack(reply[1])] == [0, -2]
