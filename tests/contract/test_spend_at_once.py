"""Many concurrent spends on a real Redis: none is admitted twice or lost, and corrupt state harms one tenant alone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.keyspace import address_limits, charge_once, tenant_limits
from extauthz.core.calendar import Calendar
from extauthz.core.errors import StoreUnavailable
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.spend import MICRO, Spend, Spent, day_field, month_field
from extauthz.service.limits.limiter import Limiter
from tests.limit_names import used_of
from tests.servers.limiting import (
    HASH,
    KEY,
    SCRIPT,
    TENANT,
    hash_of,
    limiter_on,
    now,
    of,
    seed,
    set_clock,
    spend_of,
    taken,
)

ONE_A_DAY = Rate(1, 86_400)


@pytest.mark.parametrize(
    ("limits", "own"),
    [
        (Limits(ONE_A_DAY, 1), UNLIMITED),
        (Limits(daily_quota=1), UNLIMITED),
        (Limits(monthly_quota=1), UNLIMITED),
        (Limits(hourly_quota=1), UNLIMITED),
        (UNLIMITED, Limits(hourly_quota=1)),
        (Limits(credits=1), UNLIMITED),
        (UNLIMITED, Limits(credits=1)),
        (UNLIMITED, Limits(ONE_A_DAY, 1)),
        (UNLIMITED, Limits(None, None, 1, 1)),
    ],
)
async def test_the_last_token_is_spent_once(redis_url: str, limits: Limits, own: Limits) -> None:
    """Of a hundred concurrent spends of two processes exactly one gets the last token, for each kind of limit."""
    asked = spend_of(limits, now(), key_limits=own)
    async with limiter_on(redis_url) as one, limiter_on(redis_url) as other:
        found = await asyncio.gather(*((one, other)[number % 2].spend(asked) for number in range(100)))
    assert [spent.refused for _, spent in found].count(()) == 1


async def spend_until(limiter: Limiter, asked: Spend, done: asyncio.Event, passed: "list[tuple[Spend, Spent]]") -> None:
    """Spends repeatedly; accepted spends are added to `passed`."""
    while not done.is_set():
        found = await limiter.spend(asked)
        if not found[1].refused:
            passed.append(found)


@pytest.mark.parametrize(
    ("calendar", "midnight"),
    [
        (Calendar(), 1_801_440_000),  # 2027-02-01T00:00Z, a month's end as well
        (Calendar("America/Havana", 14), 1_805_000_400),  # 2027-03-14T05:00Z: clocks skip it
        (Calendar("Pacific/Apia"), 1_325_239_200),  # 2011-12-30T10:00Z: a date is skipped
        (Calendar("Asia/Tokyo", 16, "UTC", date(2027, 1, 15), 1, date(2027, 1, 16)), 1_800_057_600),
    ],
)
async def test_midnight_under_load(
    redis: RedisClient, redis_url: str, redis_connection: RedisConnection, calendar: Calendar, midnight: int
) -> None:
    """What was admitted before and after is in the counters of its own day and month, to the last token."""
    at = (midnight - 1) * MICRO
    await set_clock(redis_connection, at)
    asked = replace(spend_of(Limits(Rate(10**9, 1), 10**9), midnight), cost=3, calendar=calendar)
    passed: list[tuple[Spend, Spent]] = []
    async with limiter_on(redis_url, script=SCRIPT) as one, limiter_on(redis_url, script=SCRIPT) as other:
        done = asyncio.Event()
        # Their own clocks are an hour slow or fast, or as Redis's.
        load = [
            asyncio.create_task(spend_until(limiter, asked.at(midnight + off), done, passed))
            for limiter in (one, other)
            for off in (-3600, -1, 0, 3600)
        ]
        for step in range(400):
            await set_clock(redis_connection, at + step * 5_000)
        done.set()
        await asyncio.gather(*load)
    counted: Counter[str] = Counter()
    for sent, spent in passed:
        assert sent.windows is not None
        in_day, in_month = spent.row[2] - 1, spent.row[3] - 1
        day, month = day_field(sent.windows, in_day), month_field(sent.windows, in_month)
        counted.update({day: 3, month: 3, f"{month}:{KEY}": 3, f"{day}:{KEY}": 1})
        bounds = sent.windows.days.bounds
        assert bounds[in_day] * MICRO <= spent.now < bounds[in_day + 1] * MICRO
    kept = await hash_of(redis)
    days = sorted(field[2:] for field in counted if len(field) == 10 and field.startswith("d:"))
    assert kept["days"].split() == days
    assert len(days) == 2
    for field, count in counted.items():
        of_key = field.startswith("d:") and field.endswith(KEY)
        assert kept[field] == (f"{3 * count} {count} {count}" if of_key else str(count)), field


async def test_script_that_is_flushed_repeatedly(redis: RedisClient, redis_url: str) -> None:
    """After many SCRIPT FLUSH what was admitted is what was counted, neither lost nor doubled."""
    asked, passed, done = spend_of(Limits(ONE_A_DAY, 1000), now()), list[tuple[Spend, Spent]](), asyncio.Event()

    async def flush_scripts() -> None:
        while not done.is_set():
            await redis.script_flush()

    async with limiter_on(redis_url) as one, limiter_on(redis_url) as other:
        flushing = asyncio.create_task(flush_scripts())
        load = [asyncio.create_task(spend_until(limiter, asked, done, passed)) for limiter in (one, other) * 8]
        async with asyncio.timeout(30):
            while len(passed) < 1000:
                await redis.ping()
        done.set()
        await asyncio.gather(flushing, *load)
    kept = await hash_of(redis)
    assert len(passed) == 1000
    assert int(kept["bucket"].split()[0]) < MICRO
    assert {value for field, value in kept.items() if field[:2] in ("d:", "m:")} == {"1000", "1000 1000 1000"}


async def test_a_harmed_tenant_among_others(redis: RedisClient, redis_url: str) -> None:
    """State of the wrong type is restored on the way; every spend in that call is charged once."""
    await redis.set(HASH, "x")
    asked = spend_of(Limits(ONE_A_DAY, 5), now())
    async with limiter_on(redis_url) as limiter:
        found = await asyncio.gather(*(limiter.spend(one) for one in (of("a", asked), asked, of("b", asked))))
    assert [spent.level for _, spent in found] == [4 * MICRO] * 3
    assert [(await hash_of(redis, tenant_limits(name)))["bucket"][:7] for name in ("a", TENANT.id, "b")] == [
        "4000000"
    ] * 3


NAMES = ["a", "A", "\u0430", "a ", " a", "a\n", "a:b", "{a}", "}{", "a}:{b", ".61", "61", "", "a\0", "\U0001f600"]
NAMES += ["x" * 64, "x" * 65, "x" * 10_240, "y" * 10_240, "\ud800\udc00", "\U00010000", "org-1", "org_1", "org\u20111"]


async def test_two_tenants_never_share_a_key(redis: RedisClient, redis_url: str) -> None:
    """Braces, colons, line ends, look-alike letters and 10 KiB: each tenant has its own hash, counted for it alone."""
    async with limiter_on(redis_url) as limiter:
        asked = spend_of(Limits(daily_quota=1000), now())
        await asyncio.gather(
            *(limiter.spend(of(name, replace(asked, cost=cost))) for cost, name in enumerate(NAMES, start=1))
        )
        counted = [(await limiter.spend(replace(of(name, asked), operation="peek")))[1].used["daily"] for name in NAMES]
    assert counted == list(range(1, len(NAMES) + 1))
    keys = [key.decode("ascii") for key in await redis.keys("tenant_limits:{*}") if isinstance(key, bytes)]
    assert len(keys) == len(NAMES)
    assert all(key.count("{") == key.count("}") == key.count(":") == 1 for key in keys)


@given(st.text(st.characters(exclude_categories=())), st.text(), st.text())
def test_different_names_have_different_keys(one: str, other: str, request: str) -> None:
    """Keys of two tenants, addresses and requests are equal only where all their names are."""
    assert (tenant_limits(one) == tenant_limits(other)) is (one == other)
    assert (charge_once(one, request) == charge_once(other, request)) is (one == other)
    assert (charge_once(one, request) == charge_once(one, other)) is (request == other)
    assert len({tenant_limits(one), address_limits(one), charge_once(one, request)}) == 3


@asynccontextmanager
async def no_memory_left(redis: RedisClient) -> AsyncIterator[None]:
    """Redis is out of memory."""
    await redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        await redis.config_set("maxmemory", 0)


async def test_no_memory_left(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Charges fail without a trace; peeks and refusals are answered; once there is memory, all works as before."""
    limits, asked = await seed(redis_connection, TENANT.id, "a"), spend_of(Limits(ONE_A_DAY, 2), now())
    once = replace(asked, once="r1")
    refused = of("a", spend_of(Limits(daily_quota=0), now()))
    await limits.spend([once])
    before = await redis.dump(HASH)
    async with no_memory_left(redis):
        found = await limits.spend([asked, once, replace(asked, operation="peek"), refused, asked])
    for harmed in (found[0], found[1], found[4]):
        assert isinstance(harmed, StoreUnavailable)
        assert harmed.reason == "memory"
    assert taken(found[2]).level == MICRO
    assert taken(found[3]).refused == ("daily",)
    assert await redis.dump(HASH) == before
    assert [taken(one).repeated for one in await limits.spend([once, once, once])] == [True, True, False]


async def test_a_request_is_charged_once(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Within ten seconds it comes twice more uncharged, then it is charged; another request is charged each time."""
    limits, asked = await seed(redis_connection), replace(spend_of(Limits(ONE_A_DAY, 5), now()), once="r1")
    found = await limits.spend([asked, asked, replace(asked, once="r2"), asked, asked])
    assert [taken(one).repeated for one in found] == [False, True, False, True, False]
    assert [taken(one).level // MICRO for one in found] == [4, 4, 3, 3, 2]
    name = charge_once(TENANT.id, "r1")
    assert 0 < await redis.pttl(name) <= 10_000
    await redis.delete(name)  # as if the ten seconds were over
    found = await limits.spend([asked, asked])
    assert [taken(one).repeated for one in found] == [False, True]


async def test_a_refused_request_was_not_charged_once(redis_connection: RedisConnection) -> None:
    """A refused request does not count as charged when it comes again; the same id at another tenant is separate."""
    limits, asked = (
        await seed(redis_connection, TENANT.id, "a"),
        replace(spend_of(Limits(daily_quota=0), now()), once="r1"),
    )
    found = await limits.spend([asked, asked, of("a", replace(asked, limits=Limits(daily_quota=1)))])
    assert [taken(one).refused for one in found] == [("daily",), ("daily",), ()]
    assert not any(taken(one).repeated for one in found)


async def test_cancelled_check_is_charged_at_most_once(redis: RedisClient, redis_url: str) -> None:
    """A cancelled check has spent once or not at all; the counters agree with the spends that were done."""
    asked = spend_of(Limits(ONE_A_DAY, 1000), now())
    async with limiter_on(redis_url) as limiter:
        await limiter.spend(asked)
        leaving = [asyncio.create_task(limiter.spend(asked)) for _ in range(50)]
        for number, task in enumerate(leaving):
            if number % 10 == 0:
                await asyncio.sleep(0)
            task.cancel()
        for task in leaving:
            with suppress(asyncio.CancelledError):
                await task
        spent = (await limiter.spend(asked))[1]
    assert 2 <= spent.used["daily"] <= 52
    assert spent.level == (1000 - spent.used["daily"]) * MICRO
    assert len(set(used_of(spent))) == 1
