"""The commonest first mistakes with Redis: the server's own words and what helps, and never a password."""

from collections.abc import Iterator

import pytest
from redis import exceptions as redis

from extauthz.backends.redis.connection import open_connection
from extauthz.backends.redis.errors import translated
from extauthz.core.errors import StoreUnavailable
from extauthz.demo.folders import temporary_folder
from extauthz.demo.ports import free_port
from extauthz.demo.redis import Redis
from tests.servers.process import listening, settings

WRONG = "sesame-that-is-wrong"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Redis]:
    """A server that asks for a password."""
    with temporary_folder("extauthz test ") as folder, Redis(folder / "redis", durable=True) as server:
        yield server


async def test_errors_have_a_reason_and_a_remedy(guarded: Redis, redis_url: str) -> None:
    """Each wrong address has its reason, the error of the server or the network, and a remedy."""
    at = f"127.0.0.1:{guarded.port}/0"
    mistakes = {
        f"redis://:{WRONG}@{at}": ("authentication", "WRONGPASS", "password in REDIS_URL"),
        f"redis://nobody:{WRONG}@{at}": ("authentication", "WRONGPASS", "user and password"),
        f"redis://{at}": ("authentication", "NOAUTH", "give the password"),
        redis_url.replace("://", f"://:{WRONG}@"): ("authentication", "ERR AUTH", "out of REDIS_URL"),
        guarded.redis_url.replace("/0", "/99"): ("response", "ERR DB index is out of range", "number of the database"),
        f"redis://127.0.0.1:{free_port()}/0": ("connection", "Connection refused", "see that it runs"),
        "redis://nowhere.invalid:6379/0": ("connection", "", "host in REDIS_URL"),
        "unix:///nowhere/redis.sock": ("connection", "No such file or directory", "see that it runs"),
    }
    for url, (reason, said, helps) in mistakes.items():
        async with open_connection(url) as redis_connection:
            with pytest.raises(StoreUnavailable) as away:
                await redis_connection.probe()
        assert away.value.reason == reason, url
        assert away.value.said.startswith(said), url
        assert helps in away.value.remedy, url
        assert WRONG not in away.value.detail


def test_arguments_of_a_script_are_not_repeated() -> None:
    """The error of a script may hold any argument; it is not repeated."""
    with pytest.raises(StoreUnavailable) as away, translated():
        raise redis.ResponseError(f"ERR user_script:1: {WRONG} script: on @user_script:1.")
    assert (away.value.reason, away.value.detail) == ("response", "response")


async def test_a_service_explains_a_first_mistake(database: str, guarded: Redis) -> None:
    """`serve` says it once in the log, and in /readyz as long as it lasts."""
    wrong = f"redis://:{WRONG}@127.0.0.1:{guarded.port}/0"
    async with listening(settings(database, wrong)) as service:
        record = await service.logged("store_unfit", store="redis")
        assert record["said"].startswith("WRONGPASS")
        _, report = await service.readyz()
        assert report["redis"] == f"authentication: {record['said']}; {record['remedy']}"
        assert await service.end() == 0
    assert WRONG not in service.text
    assert len([line for line in service.log if line["event"] == "store_unfit"]) == 1
