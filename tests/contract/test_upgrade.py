"""Counters of the previous release: workers of this release continue them, beside its workers and after them."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.scripts import Script, read
from extauthz.backends.redis.unpacking import unpack
from extauthz.backends.redis.usage import RedisUsage
from extauthz.core import token_bucket
from extauthz.core.limits import Limits, Rate
from extauthz.core.spend import MICRO, Spend
from extauthz.core.usage import Counted, Seed
from tests.limit_names import used_of
from tests.servers.earlier import EarlierLimits
from tests.servers.limiting import HASH, KEY, SCRIPT, TENANT, as_hash, hash_of, set_clock, spend_of, taken

MIDNIGHT = int(datetime(2027, 2, 1, tzinfo=UTC).timestamp())
HOUR = 3600
LIMITS, OWN = Limits(Rate(7, 60), 30, 60, 70), Limits(Rate(1, 60), 25, 55, None)
OTHER = "key-2"


@pytest.fixture
async def earlier(redis_connection: RedisConnection) -> EarlierLimits:
    """A worker of the previous release, which has begun the counters of TENANT."""
    limits = EarlierLimits(redis_connection)
    await limits.seed(TENANT.id)
    return limits


@pytest.fixture
def limits(redis_connection: RedisConnection) -> RedisLimits:
    """A worker of this release with the same clock."""
    return RedisLimits(redis_connection, script=SCRIPT)


def asked_at(now: int, *, key: str = KEY, cost: int = 2) -> Spend:
    """A charge of a key with limits of its own."""
    return spend_of(LIMITS, now, cost=cost, key=key, key_limits=OWN)


async def stored(redis: RedisClient) -> dict[str, str]:
    """The hash by name, without what only this release writes."""
    found = await hash_of(redis)
    found.pop("text_until", None)
    return found


@pytest.mark.parametrize("start", [MIDNIGHT - 40_000, MIDNIGHT - 1800], ids=["on a day", "at a month's end"])
async def test_both_releases_side_by_side(
    redis: RedisClient, redis_connection: RedisConnection, earlier: EarlierLimits, limits: RedisLimits, start: int
) -> None:
    """For an hour both charge the same fields: answers and hash equal the reference arithmetic's at either worker."""
    state, epoch, answers = token_bucket.State(), await redis_connection.epoch(), []
    for step in range(60):
        now = start + step * 55
        await set_clock(redis_connection, now * MICRO)
        asked = asked_at(now, key=(KEY, OTHER)[step % 3 == 1], cost=1 + step % 4)
        worker: EarlierLimits | RedisLimits = limits if step % 2 else earlier
        (found,) = await worker.spend([asked])
        assert found == token_bucket.spend(state, asked, now * MICRO)
        assert await stored(redis) == as_hash(state, epoch)
        answers.append(taken(found).refused)
    assert () in answers
    assert len(set(answers)) > 1


@pytest.mark.parametrize("start", [MIDNIGHT - 40_000, MIDNIGHT - 1800], ids=["on a day", "at a month's end"])
async def test_counters_move_into_packed_states(
    redis: RedisClient, redis_connection: RedisConnection, earlier: EarlierLimits, limits: RedisLimits, start: int
) -> None:
    """After an hour a charge moves its own counters: answers stay right, and fields of the old release are deleted."""
    state, epoch = token_bucket.State(), await redis_connection.epoch()
    workers: tuple[EarlierLimits | RedisLimits, ...] = (earlier, earlier, limits, limits, limits, limits)
    for step, worker in enumerate(workers):
        now = start + step * 1300
        await set_clock(redis_connection, now * MICRO)
        batch = [asked_at(now), asked_at(now, key=OTHER, cost=3), asked_at(now)]
        assert await worker.spend(batch) == [token_bucket.spend(state, one, now * MICRO) for one in batch]
        assert await stored(redis) == as_hash(state, epoch)
    fields = set(await redis_connection.execute_command("HKEYS", HASH))
    assert {b"state", f"state:{KEY}".encode(), f"state:{OTHER}".encode()} < fields
    assert not {b"bucket", b"text_until", f"bucket:{KEY}".encode(), f"bucket:{OTHER}".encode()} & fields


async def test_a_request_charged_by_the_release_before(
    redis_connection: RedisConnection, earlier: EarlierLimits, limits: RedisLimits
) -> None:
    """Repeated at a worker of this release it is not charged, nor the other way round."""
    await set_clock(redis_connection, MIDNIGHT * MICRO)
    first, second = replace(asked_at(MIDNIGHT), once="a"), replace(asked_at(MIDNIGHT), once="b")
    found = [*await earlier.spend([first]), *await limits.spend([first, second]), *await earlier.spend([second])]
    assert [taken(one).repeated for one in found] == [False, True, False, True]
    assert [taken(one).used["daily"] for one in found] == [2, 2, 4, 4]


@pytest.mark.parametrize("later", [0, HOUR + 1], ids=["at once", "after an hour"])
async def test_usage_from_before_is_saved_after(
    redis: RedisClient, redis_connection: RedisConnection, earlier: EarlierLimits, limits: RedisLimits, later: int
) -> None:
    """What was charged before the upgrade and not yet saved is saved with what is charged after it, a row a day."""
    yesterday, today = (datetime.fromtimestamp(MIDNIGHT + off, UTC).date() for off in (-1, 1))
    log = RedisUsage(redis_connection, today=today)
    await set_clock(redis_connection, (MIDNIGHT - 10) * MICRO)
    await log.mark([(TENANT.id, KEY), (TENANT.id, OTHER)])
    await earlier.spend([asked_at(MIDNIGHT), asked_at(MIDNIGHT, key=OTHER, cost=5)])
    await limits.spend([asked_at(MIDNIGHT)])
    await set_clock(redis_connection, (MIDNIGHT + later) * MICRO)
    await limits.spend([asked_at(MIDNIGHT + later, cost=3)])
    assert set((await log.read(100)).counted) == {
        Counted(TENANT.id, KEY, yesterday, 2, 4, 2),
        Counted(TENANT.id, OTHER, yesterday, 1, 5, 1),
        Counted(TENANT.id, KEY, today, 1, 3, 1),
    }


@pytest.mark.parametrize("later", [0, HOUR + 1], ids=["at once", "after an hour"])
async def test_provisional_counts_of_the_release_before(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits, later: int
) -> None:
    """What the previous release counted provisionally is added to what PostgreSQL has, once."""
    earlier, now = EarlierLimits(redis_connection), MIDNIGHT
    await earlier.begin(TENANT.id)
    await set_clock(redis_connection, now * MICRO)
    assert taken((await earlier.spend([asked_at(now)]))[0]).used["daily"] == 2
    assert taken((await limits.spend([asked_at(now)]))[0]).provisional
    await set_clock(redis_connection, (now + later) * MICRO)
    assert taken((await limits.spend([asked_at(now + later)]))[0]).provisional
    await limits.seed(TENANT.id, [Seed("d:20270201", KEY, 10, 3, 4), Seed("m:20270201", KEY, 40, 9, 9)])
    spent = taken((await limits.spend([asked_at(now + later)]))[0])
    assert used_of(spent) == (
        18,
        48,
        18,
        48,
    )
    assert (await hash_of(redis))[f"d:20270201:{KEY}"] == "18 7 8"


async def test_back_to_the_release_before(
    redis: RedisClient, redis_url: str, redis_connection: RedisConnection, earlier: EarlierLimits, limits: RedisLimits
) -> None:
    """Unpacked counters continue, to the unit, at workers of both releases."""
    state, epoch, now = token_bucket.State(), await redis_connection.epoch(), MIDNIGHT - 5
    await redis.delete(HASH)
    await limits.seed(TENANT.id, ())
    workers: tuple[EarlierLimits | RedisLimits, ...] = (limits, limits, earlier, limits, earlier)
    for step, worker in enumerate(workers):
        if step == 2:
            assert await unpack(redis_url) == 1
            assert await unpack(redis_url) == 0
            assert not [
                field for field in await redis_connection.execute_command("HKEYS", HASH) if field.startswith(b"state")
            ]
        await set_clock(redis_connection, (now + step * 4) * MICRO)
        batch = [asked_at(now), asked_at(now, key=OTHER, cost=3)]
        expected = [token_bucket.spend(state, one, (now + step * 4) * MICRO) for one in batch]
        assert await worker.spend(batch) == expected
        assert await stored(redis) == as_hash(state, epoch)


async def test_charged_while_it_is_unpacked(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits
) -> None:
    """Between the state of an organization and those of its keys charges go on, and nothing of a key is lost."""
    state, epoch = token_bucket.State(), await redis_connection.epoch()
    await limits.seed(TENANT.id, ())
    await set_clock(redis_connection, MIDNIGHT * MICRO)
    both = [asked_at(MIDNIGHT), asked_at(MIDNIGHT, key=OTHER)]
    for batch in (both, [asked_at(MIDNIGHT), replace(both[1], operation="peek")], both):
        assert await limits.spend(batch) == [token_bucket.spend(state, one, MIDNIGHT * MICRO) for one in batch]
        assert await stored(redis) == as_hash(state, epoch)
        await Script(read("layout", "named", "unpack")).run(redis_connection, HASH, "state")


async def test_worker_of_the_release_before_on_packed_state(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits
) -> None:
    """What a worker of the release before charges to a packed hash is added: usage and quotas have all of it."""
    await limits.seed(TENANT.id, ())
    await set_clock(redis_connection, MIDNIGHT * MICRO)
    both = [asked_at(MIDNIGHT), asked_at(MIDNIGHT, key=OTHER)]
    await limits.spend(both)
    (behind,) = await EarlierLimits(redis_connection).spend([asked_at(MIDNIGHT, cost=5)])
    assert taken(behind).used["daily"] == 9
    spent = [taken(one) for one in await limits.spend(both)]
    assert [used_of(one) for one in spent] == [
        (11, 11, 9, 9),
        (13, 13, 4, 4),
    ]
    found = await hash_of(redis)
    assert (found[f"d:20270201:{KEY}"], found[f"d:20270201:{OTHER}"]) == ("9 3 3", "4 2 2")
