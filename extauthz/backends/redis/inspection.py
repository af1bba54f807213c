"""What a Redis says of itself: for `extauthz doctor`."""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from redis.exceptions import ResponseError

from extauthz.backends.redis import probe
from extauthz.backends.redis.commands import Commands
from extauthz.backends.redis.connection import open_connection
from extauthz.backends.redis.errors import translated

_SECTIONS = ("server", "replication", "memory", "persistence")
_FIELD = re.compile(r"^(\w+):(.*?)\r?$", re.MULTILINE)


class RedisReport(NamedTuple):
    """`told` False: the user may not ask, so that what INFO says is empty. `ahead`, `doubt`: as of a database.

    `persistent`: what is written survives a restart, None where it does not say.
    """

    told: bool
    product: str = "Redis"
    version: str = ""
    replica: bool = False
    policy: str = ""
    persistent: bool | None = None
    ahead: float | None = None
    doubt: float = 0.0


async def inspect(url: str, *, patience: float) -> RedisReport:
    """Raises StoreUnavailable. `patience`: seconds in all."""
    with translated():
        async with asyncio.timeout(patience), open_connection(url) as redis_connection:
            fields = await _info(redis_connection)
            before = time.time()
            clock = await _permitted(redis_connection, "TIME")
            after = time.time()
            report = RedisReport(told=False) if fields is None else await _report(redis_connection, fields)
            if not isinstance(clock, list):
                return report
            at = int(clock[0]) + int(clock[1]) / 1e6
            return report._replace(ahead=at - (before + after) / 2, doubt=(after - before) / 2)


async def try_writes(url: str, trials: Sequence[probe.Trial], *, patience: float) -> None:
    """Returns when Redis lets us write as checks do. Raises StoreUnavailable."""
    with translated():
        async with asyncio.timeout(patience), open_connection(url, trials=trials) as redis_connection:
            await redis_connection.probe()


async def _report(client: Commands, fields: dict[str, str]) -> RedisReport:
    return RedisReport(
        told=True,
        product="Valkey" if "valkey_version" in fields else "Redis",
        version=fields.get("valkey_version", fields.get("redis_version", "")),
        replica=fields.get("role") == "slave",
        policy=fields.get("maxmemory_policy", ""),
        persistent=fields.get("aof_enabled") == "1" or await _saves(client),
    )


async def _saves(client: Commands) -> bool | None:
    """Whether it saves snapshots by itself; None where the user may not ask."""
    answer = await _permitted(client, "CONFIG", "GET", "save")
    return bool(answer[1]) if isinstance(answer, list) and len(answer) > 1 else None


async def _info(client: Commands) -> dict[str, str] | None:
    fields: dict[str, str] = {}
    for section in _SECTIONS:
        answer = await _permitted(client, "INFO", section)
        if not isinstance(answer, bytes):
            return None
        fields |= dict(_FIELD.findall(answer.decode("utf-8", "replace")))
    return fields


async def _permitted(client: Commands, *command: str) -> object:
    """The answer of a command; None where the user lacks the right to it, and nothing else is wrong."""
    try:
        return await client.execute_command(*command)
    except ResponseError as error:
        if str(error).startswith(("NOPERM", "ERR unknown")):
            return None
        raise
