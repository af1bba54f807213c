"""Counters of a tenant with many keys are restored in small steps: checks run in between, nothing is added twice."""

import asyncio
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis import seeds as module
from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.seeds import begin, complete
from extauthz.backends.redis.usage import RedisUsage
from extauthz.core.limits import UNLIMITED
from extauthz.core.spend import MICRO
from extauthz.core.usage import ORGANIZATION, Seed
from tests.contract.test_seed_script import ELSEWHERE, NOW
from tests.servers.limiting import HASH, SCRIPT, TENANT, hash_of, set_clock, spend_of, taken

MANY = 900  # keys: more fields than one call looks at
DAY = "d:20270115"
KEYS = [f"key-{number}" for number in range(MANY)]
KNOWN = [Seed(DAY, key, 10, 1, 1) for key in KEYS]


class Steps:
    """A connection that counts commands and their parts, and yields to other tasks at random."""

    def __init__(self, redis_connection: RedisConnection, random: Random | None = None) -> None:
        self._link = redis_connection
        self._random = random
        self.calls = self.largest = 0

    async def execute_command(self, *args: Any) -> Any:
        if self._random is not None:
            for _ in range(self._random.randrange(8)):
                await self._link.execute_command("PING")
        self.calls += 1
        self.largest = max(self.largest, len(args))
        return await self._link.execute_command(*args)


def there(cost: int) -> dict[str, str]:
    """The content of a hash where each key has used `cost`."""
    return {f"{DAY}:{key}": f"{cost} 1 1" for key in KEYS} | {DAY: str(cost * MANY), "days": DAY[2:]}


async def put(redis: RedisClient, fields: dict[str, str]) -> None:
    await redis.hset(HASH, mapping=fields)  # type: ignore[arg-type]  # text is fine


@pytest.mark.parametrize("provisional", [False, True])
async def test_many_keys(redis: RedisClient, redis_connection: RedisConnection, provisional: bool) -> None:
    """Some hundred fields a call; all saved usage is restored in the end, and no intermediate state is left."""
    steps, epoch = Steps(redis_connection), await redis_connection.epoch()
    if provisional:
        await put(redis, there(4) | {"seeded": ELSEWHERE})
        await begin(steps, TENANT.id, epoch)
        assert (await hash_of(redis))["seeded"] == f"{epoch}?"
    await complete(steps, TENANT.id, epoch, KNOWN)
    assert await hash_of(redis) == there(10) | {"seeded": epoch}
    assert steps.largest <= 2 * module.FIELDS_PER_CALL_MAX + 10
    assert steps.calls >= MANY // module.FIELDS_PER_CALL_MAX


async def test_nothing_is_charged_before_the_last_step(
    redis: RedisClient, redis_connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore that dies midway leaves no counter at zero; the next one starts over and counts nothing twice."""
    monkeypatch.setattr(module, "FIELDS_PER_CALL_MAX", 100)
    await set_clock(redis_connection, NOW * MICRO)
    limits, epoch = RedisLimits(redis_connection, script=SCRIPT), await redis_connection.epoch()
    for work in (
        complete(Dying(redis_connection, 4), TENANT.id, epoch, KNOWN),
        begin(Dying(redis_connection, 4), TENANT.id, epoch),
    ):
        with pytest.raises(ConnectionError):
            await work
        (found,) = await limits.spend([spend_of(UNLIMITED, NOW)])
        assert getattr(found, "why", "") == "unseeded"
        await put(redis, {f"m:{number}": "1" for number in range(MANY)})  # a hash that is begun in several steps
    await complete(redis_connection, TENANT.id, epoch, KNOWN)
    found_after = await hash_of(redis)
    assert found_after.items() >= (there(10) | {"seeded": epoch}).items()
    assert not [field for field in found_after if field.startswith("was:")]


class Dying(Steps):
    """A connection that is lost after a number of commands."""

    def __init__(self, redis_connection: RedisConnection, commands: int) -> None:
        super().__init__(redis_connection)
        self._left = commands

    async def execute_command(self, *args: Any) -> Any:
        if not self._left:
            raise ConnectionError
        self._left -= 1
        return await super().execute_command(*args)


@pytest.mark.parametrize("number", range(12))
async def test_in_any_order(
    redis: RedisClient, redis_connection: RedisConnection, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One process has PostgreSQL and another has not, both at once, on a copy that lacks some charges, each step in any
    order: every counter is the larger of the saved and the stored value, plus what was charged since.
    """
    monkeypatch.setattr(module, "FIELDS_PER_CALL_MAX", 150)
    await set_clock(redis_connection, NOW * MICRO)
    random, epoch = Random(number), await redis_connection.epoch()
    limits = RedisLimits(redis_connection, script=SCRIPT)
    stale = {f"{DAY}:{key}": "4 1 1" for key in KEYS[: MANY // 2]} | {f"m:x{n}": "1" for n in range(MANY)}
    leftovers = {f"was:{DAY}:{key}": "3 1 1" for key in KEYS[::7]} if number % 2 else {}
    await put(redis, stale | leftovers | {DAY: str(4 * (MANY // 2)), "seeded": f"{ELSEWHERE}?", "days": DAY[2:]})
    works = [begin, begin, complete, complete]
    charged = 0

    async def charging() -> None:
        nonlocal charged
        for _ in range(60):
            (result,) = await limits.spend([spend_of(UNLIMITED, NOW, key=KEYS[MANY - 1])])
            charged += hasattr(result, "refused")
            await redis_connection.execute_command("PING")

    await asyncio.gather(
        charging(),
        *(
            work(Steps(redis_connection, random), TENANT.id, epoch, *([KNOWN] if work is complete else []))  # type: ignore[operator]
            for work in works
        ),
    )
    await complete(redis_connection, TENANT.id, epoch, KNOWN)
    taken((await limits.spend([spend_of(UNLIMITED, NOW, key=KEYS[MANY - 1])]))[0])
    found, charged = await hash_of(redis), charged + 1
    assert found["seeded"] == epoch
    assert {found[f"{DAY}:{key}"] for key in KEYS[:-1]} == {"10 1 1"}
    assert found[f"{DAY}:{KEYS[-1]}"] == f"{10 + charged} {1 + charged} {1 + charged}"
    assert found[DAY] == str(10 * MANY + charged)


async def charged_and_completed(redis: RedisClient, redis_connection: RedisConnection) -> dict[str, str]:
    """The hash after one charge of a key that began without PostgreSQL, and after its reconciliation."""
    await set_clock(redis_connection, NOW * MICRO)
    spent = taken(
        (await RedisLimits(redis_connection, script=SCRIPT).spend([spend_of(UNLIMITED, NOW, key=KEYS[0])]))[0]
    )
    assert spent.provisional
    await complete(redis_connection, TENANT.id, await redis_connection.epoch(), KNOWN)
    return await hash_of(redis)


class Overtaken(Steps):
    """A restore from PostgreSQL that raises some counters, and dies, when the last fields were read."""

    async def execute_command(self, *args: Any) -> Any:
        answer = await super().execute_command(*args)
        if args[0] == "HSCAN" and answer[0] == b"0":
            with pytest.raises(ConnectionError):
                await complete(Dying(self._link, 2), TENANT.id, await self._link.epoch(), KNOWN)
        return answer


async def test_raised_while_what_is_there_is_remembered(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """A counter that was absent when fields were read is not counted twice by the reconciliation."""
    await put(redis, {f"m:{number}": "1" for number in range(MANY)} | {"seeded": ELSEWHERE})
    await begin(Overtaken(redis_connection), TENANT.id, await redis_connection.epoch())
    begun = await hash_of(redis)
    assert (begun[f"{DAY}:{KEYS[0]}"], begun[f"was:{DAY}"]) == ("10 1 1", begun[DAY])
    found = await charged_and_completed(redis, redis_connection)
    assert (found[f"{DAY}:{KEYS[0]}"], found[DAY]) == ("11 2 2", str(10 * MANY + 1))


@pytest.mark.parametrize("more", [0, MANY])
async def test_first_values_of_an_earlier_restore(
    redis: RedisClient, redis_connection: RedisConnection, more: int
) -> None:
    """First values of an earlier restore that were not deleted are not taken for those of this one."""
    fields = {f"m:{number}": "1" for number in range(more)}
    await put(redis, fields | {f"was:{DAY}:{KEYS[0]}": "7 1 1", f"was:{DAY}": "7", "seeded": ELSEWHERE})
    await begin(redis_connection, TENANT.id, await redis_connection.epoch())
    found = await charged_and_completed(redis, redis_connection)
    assert (found[f"{DAY}:{KEYS[0]}"], found[DAY]) == ("11 2 2", str(10 * MANY + 1))


async def test_restore_marks_the_organization(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Workers may rely on lost marks: a mark of the organization makes the usage flush read all its keys."""
    limits = RedisLimits(redis_connection, RedisUsage(redis_connection))
    for known in (None, KNOWN[:1]):
        await redis.delete("usage_due")
        await limits.seed("acme", known)
        assert await redis.zrange("usage_due", 0, -1) == [f"acme\n{ORGANIZATION}".encode()]
