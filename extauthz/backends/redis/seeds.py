"""What a tenant's counters begin with, in small steps: Redis answers checks in between."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TypeVar

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.commands import Commands
from extauthz.core.usage import CREDITS_FIELD, ORGANIZATION, Seed

FIELDS_PER_CALL_MAX = 400  # that one call changes or reads
_KEPT = 70 * 86_400_000  # milliseconds: longer than any month, the next, and what it takes to save them
_SEED = scripts.Script(scripts.read("layout", "named", "seed"))
_PROVISIONAL = scripts.Script(scripts.read("layout", "named", "provisional"))
_MANY, _LEFT = 1, 2  # what the scripts return where there is more to do

T = TypeVar("T")


async def complete(redis_connection: Commands, tenant_id: str, epoch: str, seeds: Sequence[Seed]) -> None:
    """Raises counters to what is known of keys, and their organization by as much; from then on all is known.

    Credits of an organization are known by themselves: they are not a sum of those of keys.
    """
    name = keyspace.tenant_limits(tenant_id)
    counters = [seed for seed in seeds if seed.key_id != ORGANIZATION or seed.field == CREDITS_FIELD]
    parts = list(_parts(counters)) or [()]
    left = 0
    for number, part in enumerate(parts, 1):
        texts = (text for seed in part for text in _counter(seed))
        left = await _SEED.run(redis_connection, name, epoch, _KEPT, "last" if number == len(parts) else "more", *texts)
    if left == _LEFT:
        async for fields in _fields(redis_connection, name, "was:*"):
            await _PROVISIONAL.run(redis_connection, name, epoch, _KEPT, "forget", *fields)


async def begin(redis_connection: Commands, tenant_id: str, epoch: str) -> None:
    """Counters begin with what is there, and remember what that was."""
    name = keyspace.tenant_limits(tenant_id)
    if await _PROVISIONAL.run(redis_connection, name, epoch, _KEPT, "begin") == _MANY:
        async for fields in _fields(redis_connection, name, "*"):
            await _PROVISIONAL.run(redis_connection, name, epoch, _KEPT, "remember", *fields)
        await _PROVISIONAL.run(redis_connection, name, epoch, _KEPT, "begun")


def _counter(seed: Seed) -> tuple[str, str | int]:
    """Field and value as the hash has them."""
    value = f"{seed.cost} {seed.allowed} {seed.revision}" if seed.field.startswith("d:") else seed.cost
    return f"{seed.field}:{seed.key_id}" if seed.key_id else seed.field, value


async def _fields(redis_connection: Commands, name: str, pattern: str) -> AsyncIterator[Sequence[str]]:
    """The fields of a hash that match, some at a time; each at least once."""
    cursor = b"0"
    while True:
        cursor, found = await redis_connection.execute_command(
            "HSCAN", name, cursor, "MATCH", pattern, "COUNT", FIELDS_PER_CALL_MAX
        )
        names = [field.decode("utf-8", "replace") for field in found[::2]]
        for part in _parts(names):
            yield part
        if cursor == b"0":
            return


def _parts(things: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(things), FIELDS_PER_CALL_MAX):
        yield things[start : start + FIELDS_PER_CALL_MAX]
