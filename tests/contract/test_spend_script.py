"""The script that spends in Redis against its twin in `core/spend.py`: the same replies and the same stored state."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.keyspace import tenant_limits
from extauthz.backends.redis.limits import SPEND, RedisLimits
from extauthz.backends.redis.topology import connect
from extauthz.core.limits import BURST_MAX, DECIMALS, PERIODS, QUOTA_MAX, RATE_PER_SECOND_MAX, Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.spend import MICRO, Spend, Spent, State, plan, spend
from extauthz.demo.redis import Redis

TENANT = "org-1"
HASH = tenant_limits(TENANT)
DAY = 86_400 * MICRO
START = 1_800_000_000 * MICRO

# The one line that reads the clock, reading a clock of the test's instead.
TIME = "redis.call('TIME')"
SCRIPT = SPEND.replace(TIME, "redis.call('MGET', 'clock:s', 'clock:us')")
assert SPEND.count(TIME) == 1


@dataclass(frozen=True)
class Step:
    """One request: the clock moves by `elapsed` or to `moment` (microseconds); `skew` is how far off ours is."""

    elapsed: int
    moment: int | None
    skew: int
    limits: Limits
    cost: int


def _ends() -> list[int]:
    """Midnights and month's ends, leap day and year's end included."""
    dates = [(2027, 1, 16), (2027, 2, 1), (2027, 3, 1), (2028, 2, 29), (2028, 3, 1), (2028, 1, 1)]
    return [int(datetime(*date, tzinfo=UTC).timestamp()) * MICRO for date in dates]


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    """Any rate that can be written, the largest and the smallest of each period often."""
    unit = draw(st.sampled_from(list(PERIODS)))
    scale = 10 ** DECIMALS[unit]
    most = RATE_PER_SECOND_MAX * PERIODS[unit] * scale
    number = draw(st.sampled_from([1, most - 1, most]) | st.integers(1, 100 * scale) | st.integers(1, most))
    whole, decimals = divmod(number, scale)
    return Rate.parse(f"{whole}.{decimals:0{DECIMALS[unit]}d}/{unit}") if len(str(whole)) <= 14 else Rate(1, 1)


costs = st.integers(1, 5) | st.sampled_from([1000, BURST_MAX])
bursts = st.integers(1, 20) | st.sampled_from([1000, BURST_MAX])
quotas = st.none() | st.integers(0, 12) | st.just(QUOTA_MAX)
limits = st.builds(Limits, rates(), bursts, quotas, quotas) | st.builds(Limits, st.none(), st.none(), quotas, quotas)
elapses = (
    st.integers(0, 10 * MICRO)
    | st.sampled_from([0, 1, 999_999, MICRO, DAY, 31 * DAY, -1, -MICRO, -DAY, -40 * DAY])
    | st.integers(0, 10 * MICRO)
)
moments = st.none() | st.builds(int.__add__, st.sampled_from(_ends()), st.integers(-2, 2))
skews = st.just(0) | st.sampled_from([DAY, -DAY, -2 * DAY, 3 * DAY, -70 * DAY])


@st.composite
def requests(draw: st.DrawFn) -> list[Step]:
    """Requests in a row under limits that stay for a while."""
    steps = []
    for chosen in draw(st.lists(limits, min_size=1, max_size=3)):
        for _ in range(draw(st.integers(1, 6))):
            cost = min(draw(costs), chosen.burst or BURST_MAX)
            steps.append(Step(draw(elapses), draw(moments), draw(skews), chosen, cost))
    return steps


@asynccontextmanager
async def open_limits(server: Redis) -> AsyncIterator[tuple[RedisClient, RedisLimits]]:
    """An empty Redis, and the script in it with the test's clock."""
    async with connect(server.redis_url, patience=5) as client:
        await client.delete(HASH)
        yield client, RedisLimits(client, script=SCRIPT)


async def stored(client: RedisClient) -> dict[str, int]:
    """The tenant's hash."""
    return {str(field, "ascii"): int(value) for field, value in (await client.hgetall(HASH)).items()}  # type: ignore[arg-type] # bytes


def twin(state: State, asked: Spend, now: int) -> Spent:
    """What one call of RedisLimits does to the state, by the twin of the script."""
    spent = spend(state, asked, now)
    if not spent.windows:
        asked = asked.at(now / MICRO)
        spent = spend(state, asked, now)
    if not spent.refused and asked.cost in spent.used:
        # A window has begun: of the others, only those that clocks may still disagree about are kept.
        known = {window.field for quota in asked.quotas for window in quota.windows}
        state.counters = {field: used for field, used in state.counters.items() if field in known}
    return spent


def as_hash(state: State) -> dict[str, int]:
    """The hash that holds a state."""
    bucket = {} if state.level is None else {"level": state.level, "carry": state.carry, "at": state.at}
    return bucket | state.counters


@given(steps=requests())
@settings(max_examples=250, deadline=None)
async def test_script_and_twin_agree(redis_server: Redis, steps: list[Step]) -> None:
    """Whatever limits, costs and clocks: every reply and the hash afterwards are the twin's, number for number."""
    state, now = State(None, 0, 0, {}), START
    async with open_limits(redis_server) as (client, script):
        for step in steps:
            now = now + step.elapsed if step.moment is None else step.moment
            asked = plan(step.limits, step.cost, (now + step.skew) / MICRO)
            assert not isinstance(asked, Reason)
            await client.mset({"clock:s": now // MICRO, "clock:us": now % MICRO})
            assert await script.spend(TENANT, asked) == twin(state, asked, now)
            assert await stored(client) == as_hash(state)


@given(
    level=st.integers(0, BURST_MAX * MICRO),
    carry=st.integers(0, 864_000),
    at=st.integers(0, 4 * 10**15),
    counters=st.tuples(st.integers(0, 20), st.integers(0, QUOTA_MAX)),
    rate=rates(),
    burst=bursts,
)
@settings(max_examples=250, deadline=None)
async def test_script_and_twin_agree_on_any_state(
    redis_server: Redis, level: int, carry: int, at: int, counters: tuple[int, int], rate: Rate, burst: int
) -> None:
    """From any state that could be stored, long ago or under other limits, both go on alike."""
    asked = plan(Limits(rate, burst, 12, QUOTA_MAX), 1, START / MICRO)
    assert not isinstance(asked, Reason)
    fields = [quota.windows[1].field for quota in asked.quotas]
    state = State(level, carry, at, dict(zip(fields, counters, strict=True)))
    async with open_limits(redis_server) as (client, script):
        await client.hset(HASH, mapping=as_hash(state))  # type: ignore[arg-type] # a dict of int is fine
        await client.mset({"clock:s": START // MICRO, "clock:us": START % MICRO})
        assert await script.spend(TENANT, asked) == twin(state, asked, START)
        assert await stored(client) == as_hash(state)


async def test_a_spend_without_quotas(redis_server: Redis) -> None:
    """Where nothing is counted, a spend is still one spend: the bucket is charged once."""
    asked = plan(Limits(Rate(1, 1), 5), 1, START / MICRO)
    assert not isinstance(asked, Reason)
    asked = replace(asked, quotas=())
    state = State(None, 0, 0, {})
    async with open_limits(redis_server) as (client, script):
        await client.mset({"clock:s": START // MICRO, "clock:us": START % MICRO})
        assert await script.spend(TENANT, asked) == spend(state, asked, START)
        assert await stored(client) == as_hash(state) == {"level": 4 * MICRO, "carry": 0, "at": START}
