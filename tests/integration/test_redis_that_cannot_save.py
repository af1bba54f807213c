"""A Redis whose disk fails, and one that loads its data: away with the reason, and back by itself."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from extauthz.backends.redis.topology import connect
from extauthz.demo.folders import temporary_folder
from extauthz.demo.redis import Redis
from tests.integration.test_redis_refusing import key, told_away, told_up
from tests.servers.serving import PATIENT, Serving, probe_redis_often, serving
from tests.servers.waiting import until

__all__ = ["key"]


class Slow(Redis):
    """Takes a hundredth of a second to read each key when it starts, and answers after each kilobyte meanwhile."""

    def prepare(self) -> None:
        super().prepare()
        self.argv = [*self.argv, "--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder("extauthz test ") as folder:
        yield folder


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the checks of every second more often."""
    probe_redis_often(monkeypatch)


def told(service: Serving, start: str) -> bool:
    return service.health.readiness().stores["redis"].startswith(start)


async def test_a_disk_that_fails(database: str, folder: Path, key: str) -> None:
    """A server that could not save takes no writes (MISCONF): away, as long as that lasts."""
    with Redis(folder / "redis") as server:
        async with (
            connect(server.redis_url, patience=5) as redis,
            serving(database, server.redis_url, **PATIENT) as service,
        ):
            await redis.config_set("save", "3600 1")
            in_the_way = server.folder / "dump.rdb" / "in the way"
            in_the_way.mkdir(parents=True)
            await redis.bgsave()
            await until(partial(told_away, service, key))
            assert told(service, "disk: MISCONF ")
            in_the_way.rmdir()
            in_the_way.parent.rmdir()
            await redis.bgsave()
            await until(partial(told_up, service, key))


async def test_a_server_that_still_reads_its_data(database: str, folder: Path, key: str) -> None:
    """Away while it answers LOADING, and used as soon as it has read everything."""
    with Slow(folder / "redis") as server:
        async with connect(server.redis_url, patience=5) as redis:
            await redis.mset({f"other:{number}": "not compressible"[:9] * 12 + str(number) for number in range(100)})
            await redis.save()
        async with serving(database, server.redis_url, **PATIENT) as service:
            server.stop()
            again = asyncio.create_task(asyncio.to_thread(server.start))

            async def loading() -> bool:
                return told(service, "loading: LOADING ")

            await until(loading)
            assert await told_away(service, key)
            await again
            await until(partial(told_up, service, key))
