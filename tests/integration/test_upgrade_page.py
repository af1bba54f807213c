"""The way back in docs/howto/upgrade.md, run as the page shows it."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.connection import open_connection
from extauthz.backends.redis.limits import RedisLimits
from extauthz.core.limits import Limits, Rate
from tests.servers.earlier import EarlierLimits
from tests.servers.limiting import HASH, SCRIPT, TENANT, set_clock, spend_of, taken

PAGE = Path(__file__).parents[2] / "docs/howto/upgrade.md"
NOW = 1_800_000_000


def command() -> list[str]:
    """The command of the page, by the Python of the tests."""
    (found,) = re.findall(r"```sh\n\s*extauthz (\S+)\n", PAGE.read_text())
    return [sys.executable, "-m", "extauthz", found]


async def test_counters_go_back(redis: RedisClient, redis_url: str) -> None:
    """After the command a worker of the release before goes on where this one was."""
    asked = spend_of(Limits(Rate(1, 86_400), 5, 10, 20), NOW, cost=2)
    async with open_connection(redis_url) as redis_connection:
        limits, earlier = RedisLimits(redis_connection, script=SCRIPT), EarlierLimits(redis_connection)
        await limits.seed(TENANT.id, ())
        await set_clock(redis_connection, NOW * 1_000_000)
        await limits.spend([asked])
        environ = {**os.environ, "REDIS_URL": redis_url}
        done = await asyncio.to_thread(
            subprocess.run, command(), env=environ, capture_output=True, text=True, check=True
        )
        assert done.stdout == "Unpacked the counters of 1 hash.\n"
        assert await redis.hget(HASH, "state") is None
        spent = taken((await earlier.spend([asked]))[0])
    assert (spent.level, spent.used["daily"], spent.used["key-monthly"]) == (1_000_000, 4, 4)


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [("redis://127.0.0.1:1", 1, "Redis at redis://127.0.0.1:1 cannot be used"), ("", 2, "REDIS_URL")],
)
def test_a_redis_that_is_not_there(url: str, status: int, said: str) -> None:
    """The command ends with one line that says what is wrong."""
    done = subprocess.run(command(), env={**os.environ, "REDIS_URL": url}, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.startswith("extauthz: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_changes_nothing() -> None:
    """Help needs no setting and no Redis."""
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    done = subprocess.run([*command(), "--help"], env=environ, capture_output=True, text=True, check=True)
    assert "earlier builds" in done.stdout
