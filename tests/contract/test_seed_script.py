"""How a tenant's counters are restored when Redis has lost them, has older ones, or PostgreSQL is away."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.connection import RedisConnection, open_connection
from extauthz.backends.redis.limits import RedisLimits
from extauthz.core.errors import StoreUnavailable
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.spend import MICRO, NotApplied
from extauthz.core.usage import Seed, Span
from extauthz.demo.redis import Redis
from extauthz.service.limits.limiter import Limiter
from tests.limit_names import used_of
from tests.servers.fixtures import stopped
from tests.servers.limiting import HASH, KEY, SCRIPT, TENANT, hash_of, limiter_on, set_clock, spend_of, taken
from tests.unit.service.fakes import Watch

NOW = 1_800_000_000  # 2027-01-15T08:00:00Z
LIMITS = Limits(Rate(1, 86_400), 5, 1000, 2000)
# What PostgreSQL has: two keys today, one of them yesterday too.
SEEDS = (
    Seed("d:20270114", KEY, 30, 3, 3),
    Seed("d:20270115", KEY, 50, 5, 6),
    Seed("d:20270115", "key 2", 20, 4, 4),
    Seed("m:20270101", KEY, 80, 8, 9),
    Seed("m:20270101", "key 2", 20, 4, 4),
)
SEEDED = {
    "d:20270114": "30",
    f"d:20270114:{KEY}": "30 3 3",
    "d:20270115": "70",
    f"d:20270115:{KEY}": "50 5 6",
    "d:20270115:key 2": "20 4 4",
    "m:20270101": "100",
    f"m:20270101:{KEY}": "80",
    "m:20270101:key 2": "20",
    "days": "20270114 20270115",
}
ELSEWHERE = "aaaaaaaaaaaa"  # the epoch of another server


@pytest.fixture
async def limits(redis_connection: RedisConnection) -> RedisLimits:
    """Limits whose clock stands still on the day of SEEDS."""
    await set_clock(redis_connection, NOW * MICRO)
    return RedisLimits(redis_connection, script=SCRIPT)


async def spend(limits: RedisLimits, *, cost: int = 1, times: int = 1) -> None:
    for one in await limits.spend([spend_of(LIMITS, NOW, cost=cost)] * times):
        taken(one)


async def counters(redis: RedisClient) -> dict[str, str]:
    """All fields except the bucket and the mark."""
    return {field: value for field, value in (await hash_of(redis)).items() if field not in ("bucket", "seeded")}


async def test_a_hash_that_is_not_there(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits
) -> None:
    """A spend is not applied until counters are restored from PostgreSQL; then spends continue from them."""
    (found,) = await limits.spend([spend_of(LIMITS, NOW)])
    assert isinstance(found, NotApplied)
    assert found.why == "unseeded"
    assert await redis.exists(HASH) == 0
    await limits.seed(TENANT.id, SEEDS)
    assert await hash_of(redis) == SEEDED | {"seeded": await redis_connection.epoch()}
    spent = taken((await limits.spend([spend_of(LIMITS, NOW, cost=2)]))[0])
    assert used_of(spent) == (
        72,
        102,
        52,
        82,
    )
    assert (await counters(redis))[f"d:20270115:{KEY}"] == "52 6 7"
    assert not spent.provisional


async def test_tenant_without_saved_usage(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits
) -> None:
    """A tenant's first request begins at zero, marked by the epoch, and is kept for more than two months."""
    await limits.seed(TENANT.id, ())
    assert await hash_of(redis) == {"seeded": await redis_connection.epoch(), "days": ""}
    assert await redis.pttl(HASH) > 69 * 86_400_000


async def test_what_another_server_counted(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits
) -> None:
    """After a failover no spend is applied before PostgreSQL answered: its figures raise counters, lower none.

    The organization is raised by what its keys are raised by: this server may have more of another key.
    """
    here = {"d:20270115": "70", f"d:20270115:{KEY}": "45 4 5", "d:20270115:key 2": "25 5 5"}
    here |= {"m:20270101": "150", f"m:20270101:{KEY}": "75", "m:20270101:key 2": "75"}
    here |= {"bucket": f"2000000 0 {NOW * MICRO}", "days": "20270113 20270115", "d:20270113": "80"}
    await redis.hset(HASH, mapping=here | {"seeded": ELSEWHERE})  # type: ignore[arg-type]  # text is fine
    (found,) = await limits.spend([spend_of(LIMITS, NOW)])
    assert isinstance(found, NotApplied)
    await limits.seed(TENANT.id, SEEDS)
    expected = SEEDED | {"bucket": here["bucket"], "d:20270113": "80", "days": "20270113 20270114 20270115"}
    expected |= {"d:20270115": "75", "d:20270115:key 2": "25 5 5", "m:20270101": "155", "m:20270101:key 2": "75"}
    expected |= {"seeded": await redis_connection.epoch()}
    assert await hash_of(redis) == expected


async def test_restore_without_postgresql(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits
) -> None:
    """Counters begin at zero, provisional; once PostgreSQL answers, what was counted since is added to its figures."""
    await limits.seed(TENANT.id, None)
    assert await hash_of(redis) == {"seeded": f"{await redis_connection.epoch()}?", "days": ""}
    first, second = await limits.spend([spend_of(LIMITS, NOW, cost=2)] * 2)
    assert taken(first).provisional
    assert (taken(second).used["daily"], taken(second).used["key-daily"]) == (4, 4)
    await limits.seed(TENANT.id, SEEDS)
    expected = SEEDED | {"d:20270115": "74", f"d:20270115:{KEY}": "54 7 8"}
    assert await counters(redis) == expected | {"m:20270101": "104", f"m:20270101:{KEY}": "84"}
    spent = taken((await limits.spend([spend_of(LIMITS, NOW)]))[0])
    assert (spent.used["daily"], spent.provisional) == (75, False)


@pytest.mark.parametrize(("known", "then"), [(70, 73), (20, 53), (50, 53), (0, 53)])
async def test_restore_of_another_servers_counters_without_postgresql(
    redis: RedisClient, limits: RedisLimits, known: int, then: int
) -> None:
    """Counters begin with what another server had counted; it is not counted twice once PostgreSQL answers."""
    await redis.hset(HASH, mapping={"seeded": ELSEWHERE, "d:20270115": 50, f"d:20270115:{KEY}": "50 5 5"})
    await limits.seed(TENANT.id, None)
    await spend(limits, times=3)
    assert (await counters(redis))["d:20270115"] == "53"
    await limits.seed(TENANT.id, [Seed("d:20270115", KEY, known, 1, 1)] if known else ())
    found = await counters(redis)
    assert (found["d:20270115"], found[f"d:20270115:{KEY}"]) == (str(then), f"{then} 8 8")
    assert not [field for field in found if field.startswith("was:")]


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("here", [0, 50, 90])
async def test_provisional_counters_of_another_server(
    redis: RedisClient, limits: RedisLimits, here: int, again: bool
) -> None:
    """What an old copy counted provisionally is not added to what PostgreSQL has.

    The copy may have been made before its counters were reconciled and saved: they would be counted twice. So they
    count only where they are more, and the rest is dropped.
    """
    await redis.hset(HASH, mapping={"seeded": ELSEWHERE, "d:20270115": here, f"d:20270115:{KEY}": f"{here} 1 1"})
    await limits.seed(TENANT.id, None)
    await spend(limits, cost=2)
    await redis.hset(HASH, "seeded", f"{ELSEWHERE}?")
    if again:
        await limits.seed(TENANT.id, None)
        await spend(limits)
    await limits.seed(TENANT.id, [Seed("d:20270115", KEY, 70, 5, 6)])
    found = await counters(redis)
    assert found["d:20270115"] == str(max(70, here + 2) + again)
    assert found[f"d:20270115:{KEY}"] == f"{max(70, here + 2) + again} {5 + again} {6 + again}"
    assert not [field for field in found if field.startswith("was:")]


async def test_second_restore_changes_nothing(redis: RedisClient, limits: RedisLimits) -> None:
    """The first restore counts; what was counted since is neither raised nor marked."""
    await limits.seed(TENANT.id, SEEDS)
    await spend(limits)
    before = await redis.dump(HASH)
    for seeds in (SEEDS, (), None, [Seed("d:20270115", KEY, 500, 1, 1)]):
        await limits.seed(TENANT.id, seeds)
        assert await redis.dump(HASH) == before


async def test_second_provisional_restore_changes_nothing(redis: RedisClient, limits: RedisLimits) -> None:
    """The first values of counters are kept once: a second provisional restore does not change them."""
    await limits.seed(TENANT.id, None)
    await spend(limits)
    before = await redis.dump(HASH)
    await limits.seed(TENANT.id, None)
    assert await redis.dump(HASH) == before


@pytest.mark.parametrize("command", ["SET {} x", "LPUSH {} x", "SADD {} x", "ZADD {} 1 x", "XADD {} * a b"])
@pytest.mark.parametrize("known", [True, False])
async def test_state_of_the_wrong_type(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits, command: str, known: bool
) -> None:
    """It is deleted; counters begin as if nothing had been stored."""
    words = [word.format(HASH) for word in command.split()]
    await redis.execute_command(*words)  # type: ignore[no-untyped-call]
    await limits.seed(TENANT.id, SEEDS if known else None)
    epoch = await redis_connection.epoch()
    assert await hash_of(redis) == (SEEDED | {"seeded": epoch} if known else {"seeded": f"{epoch}?", "days": ""})


async def test_expiry_is_never_brought_forward(redis: RedisClient, limits: RedisLimits) -> None:
    """A bucket that needs years to fill keeps its expiry when counters are restored again."""
    await limits.seed(TENANT.id, ())
    await limits.spend([spend_of(Limits(Rate(1, 864_000), 1000), NOW, cost=1000)])
    until = await redis.pexpiretime(HASH)
    await redis.hset(HASH, "seeded", ELSEWHERE)
    await limits.seed(TENANT.id, SEEDS)
    assert await redis.pexpiretime(HASH) == until


class FixedUsage:
    """PostgreSQL as it was when SEEDS were recorded; it answers nothing else."""

    def __init__(self) -> None:
        self.asked = 0

    async def seeds(self, wanted: Mapping[str, Sequence[Span]]) -> Mapping[str, Sequence[Seed]]:
        self.asked += 1
        fields = {span.field for span in wanted.get(TENANT.id, ())}
        return {TENANT.id: [seed for seed in SEEDS if seed.field in fields]}


def counting(redis_url: str, usage: FixedUsage, watch: Watch | None = None) -> AbstractAsyncContextManager[Limiter]:
    """A limiter whose clock stands still."""
    return limiter_on(redis_url, script=SCRIPT, usage=usage, watch=watch)  # type: ignore[arg-type]  # see FixedUsage


async def test_two_processes_seed_at_once(
    redis: RedisClient, redis_url: str, redis_connection: RedisConnection
) -> None:
    """Each process queries PostgreSQL once for all waiting checks; one of them restores, and every charge is added."""
    await set_clock(redis_connection, NOW * MICRO)
    usage, asked = FixedUsage(), spend_of(UNLIMITED, NOW)
    async with counting(redis_url, usage) as one, counting(redis_url, usage) as other:
        await asyncio.gather(*((one, other)[number % 2].spend(asked) for number in range(200)))
    assert usage.asked <= 2
    found = await counters(redis)
    assert (found["d:20270115"], found[f"d:20270115:{KEY}"]) == ("270", "250 205 206")


async def test_memory_is_lost_between_checks(
    redis: RedisClient, redis_url: str, redis_connection: RedisConnection
) -> None:
    """After each FLUSHALL counters begin with what PostgreSQL has, and all checks are answered."""
    usage, asked = FixedUsage(), spend_of(UNLIMITED, NOW)
    async with counting(redis_url, usage) as limiter:
        for _ in range(5):
            await redis.flushall()
            await set_clock(redis_connection, NOW * MICRO)
            found = await asyncio.gather(*(limiter.spend(asked) for _ in range(50)))
            assert sorted(spent.used["daily"] for _, spent in found) == list(range(71, 121))
    assert usage.asked == 5


async def test_a_restart_is_another_memory(redis_server: Redis, redis_url: str) -> None:
    """Redis restarts empty: the first check restores the counters again."""
    usage, watch, asked = FixedUsage(), Watch(), spend_of(UNLIMITED, NOW)
    async with counting(redis_url, usage, watch) as limiter:
        for _ in range(2):
            async with asyncio.timeout(10), open_connection(redis_url) as redis_connection:
                await watch.back.wait()
                await set_clock(redis_connection, NOW * MICRO)
            assert (await limiter.spend(asked))[1].used["daily"] == 71
            with stopped(redis_server), pytest.raises(StoreUnavailable):
                await limiter.spend(asked)
    assert usage.asked == 2
