"""From workers to the supervisor: lines of every worker, and reports of those that did not fit."""

import asyncio
import gc
import os
from collections.abc import Mapping

import pytest

from extauthz.app.tail_channel import SupervisorEnd, WorkerEnd
from extauthz.core.tail import TailFilter
from extauthz.service import tails
from extauthz.service.tails import Tails
from tests.servers.waiting import until

WAIT = 10.0  # seconds
LINE = b"x" * 400 + b"\n"


class Ends:
    """A supervisor's end and those of its workers."""

    def __init__(self) -> None:
        self.channel = SupervisorEnd()
        self.tails = Tails(self.channel.watch)
        self.workers: list[WorkerEnd] = []
        self.told: list[Mapping[int, TailFilter]] = []

    async def __aenter__(self) -> "Ends":
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.close()
        await until(lambda: not self.channel._acknowledged)

    def add(self) -> WorkerEnd:
        worker = WorkerEnd(self.channel.connect(self.tails))
        place = len(self.workers)
        self.workers.append(worker)
        self.told.append({})

        def watch(filters: Mapping[int, TailFilter]) -> None:
            self.told[place] = filters

        worker.listen(watch)
        return worker


async def test_lines_of_every_worker() -> None:
    """A tail opens once all workers were notified; lines of all arrive; its end reaches all workers, too."""
    async with Ends() as ends:
        first, second = ends.add(), ends.add()
        only = TailFilter("org", None, "allow")
        async with ends.tails.open(only) as tail:
            ((number, told),) = ends.told[0].items()
            assert told == only
            assert ends.told[1] == ends.told[0]
            first.send([number], b"1\n")
            second.send([number, 99], b"2\n")
            lines = b""
            while len(lines) < 4:
                lines += (await tail.take(WAIT))[0]
            assert sorted(lines.split()) == [b"1", b"2"]
            late = ends.add()  # as after another has died
            await until(lambda: bool(ends.told[2]))
            late.send([number], b"3\n")
            assert await tail.take(WAIT) == (b"3\n", 0)
        assert ends.told[0] == ends.told[2] == {}


async def test_a_worker_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the supervisor is busy, a worker's lines fill the socket; the rest is dropped, counted and reported."""
    monkeypatch.setattr(tails, "LINES_MAX", 10**6)
    async with Ends() as ends:
        worker = ends.add()
        async with ends.tails.open(TailFilter()) as tail:
            (number,) = ends.told[0]
            for _ in range(20_000):
                worker.send([number], LINE)
            assert worker.count_dropped() > 0
            lines, dropped = 0, 0
            async with asyncio.timeout(WAIT):
                while lines + dropped < 20_000:
                    got, lost = await tail.take(WAIT)
                    lines, dropped = lines + got.count(b"\n"), dropped + lost
            assert dropped == worker.count_dropped()


async def test_the_end_of_a_worker_and_of_the_supervisor() -> None:
    """A tail opens though a worker has died; a worker without a supervisor sends nothing."""
    async with Ends() as ends:
        first, second = ends.add(), ends.add()
        first.close()
        async with ends.tails.open(TailFilter()):
            assert ends.told[1]
            for sock in list(ends.channel._acknowledged):
                asyncio.get_running_loop().remove_reader(sock)
                sock.close()
            await until(lambda: not ends.told[1])
            ends.channel._acknowledged.clear()
        second.send([1], LINE)
        assert second.count_dropped() == 1
        second.close()


async def test_no_descriptor_is_left() -> None:
    """Workers that die and are started again leave nothing open."""
    async with Ends() as ends:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
        for _ in range(50):
            ends.add().close()
            await until(lambda: not ends.channel._acknowledged)
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - a count
