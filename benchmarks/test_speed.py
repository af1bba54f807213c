"""The load of the bench asks what it is told to, when it is due, and what a server and a core did is counted."""

import asyncio
import os
from dataclasses import replace
from itertools import islice
from math import inf
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.bare import FORMS, LOOPS
from benchmarks.client import Job, missing, requests
from benchmarks.runs import load, wrk
from benchmarks.stage import bare
from benchmarks.timetable import Timetable, milliseconds
from tests.servers.distribution import distribution_server

REQUEST = "GET /{number} HTTP/1.1\r\nHost: bench\r\nX-Key: {key}\r\n\r\n"


@pytest.fixture
def keys(tmp_path: Path) -> str:
    file = tmp_path / "some keys"
    file.write_text("one\ntwo\nthree")
    return str(file)


def test_requests_differ(keys: str) -> None:
    """Numbers are never the same, keys go round from where they are to begin, and nothing else is touched."""
    job = Job("", 0, "GET /{number}?a=100%25 {key} {number}", keys, connections=1, seconds=1, skip=2, first=7)
    assert list(islice(requests(job), 3)) == [
        b"GET /000000000007?a=100%25 three 000000000007",
        b"GET /000000000008?a=100%25 one 000000000008",
        b"GET /000000000009?a=100%25 two 000000000009",
    ]


class Refusal(asyncio.Protocol):
    """A server that notes every request and refuses it; `over` is set while it has no connection."""

    def __init__(self, seen: list[bytes], open_connections: set[asyncio.Protocol], over: asyncio.Event) -> None:
        self._seen = seen
        self._open = open_connections
        self._over = over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(self)
        self._over.clear()

    def data_received(self, data: bytes) -> None:
        self._seen.append(data)
        self._transport.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")

    def connection_lost(self, _: Exception | None) -> None:
        self._open.discard(self)
        if not self._open:
            self._over.set()


@pytest.mark.parametrize(
    ("answer", "goes_on"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 401 No\r\ncontent-length:12\r\nx: y\r\n\r\nhello world", True),
        (b"HTTP/1.1 401 No\r\ncontent-length:12\r\nx: y\r\n\r\nhello world!", False),
        (b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n", False),
        (b"", True),
    ],
)
def test_the_end_of_an_answer(answer: bytes, goes_on: bool) -> None:
    """An answer ends with its head, or with as many bytes behind that as it says."""
    assert missing(answer) == goes_on


async def test_wrk_asks_the_same(keys: str) -> None:
    """wrk sends what our own load sends, byte for byte, and finds the same answers wrong."""
    program = str(distribution_server("wrk"))
    seen, opened, over = list[bytes](), set[asyncio.Protocol](), asyncio.Event()
    server = await asyncio.get_running_loop().create_server(lambda: Refusal(seen, opened, over), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        job = Job("127.0.0.1", port, REQUEST, keys, connections=1, seconds=1, skip=1, first=41)
        outcomes = [await wrk(program, replace(job, status=status)) for status in (401, 200)]
        await over.wait()
    # wrk tries its script before it connects: the first request is never sent.
    assert seen[:5] == list(islice(requests(job), 1, 6))
    assert [outcome.others for outcome in outcomes] == [0, outcomes[1].requests]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("form", FORMS)
async def test_load_asks_so_often(form: str, loop: str, keys: str) -> None:
    """A load asks as often as it was told, and counts other answers."""
    async with bare(form, loop) as server:
        job = Job(server.host, server.port, REQUEST, keys, connections=4, seconds=60, at_most=10)
        outcome = await load(job)
        assert (outcome.requests, outcome.others) == (10, 0)
        outcome = await load(replace(job, status=401))
        assert (outcome.requests, outcome.others) == (10, 10)


async def test_load_by_timetable() -> None:
    """By a timetable as many requests are sent as were due, however late."""
    async with bare("server", "asyncio") as server:
        job = Job(server.host, server.port, REQUEST, "", connections=2, seconds=0.25, rate=400)
        outcome = await load(job)
    assert (outcome.requests, outcome.others) == (100, 0)
    assert 0 < outcome.p50 <= outcome.p90 <= outcome.p99 <= outcome.p999


def test_requests_are_due_at_their_times() -> None:
    """By a timetable the times follow from the start alone, and end with it; otherwise a request is due at once."""
    table = Timetable(10.0, 1.0, rate=4)
    dues: list[float] = []
    while (due := table.due(99.0)) < inf:
        table.send(len(dues), due)
        dues.append(due)
    assert dues == [10.0, 10.25, 10.5, 10.75]
    closed = Timetable(10.0, 1.0, at_most=1)
    assert (closed.due(10.5), closed.due(11.0)) == (10.5, inf)
    closed.send(0, 10.5)
    assert closed.due(10.75) == inf


def test_a_stall_delays_every_request_that_was_due() -> None:
    """A request that waited for a free connection is late from the time at which it was due, not from its sending."""
    table = Timetable(0.0, 1.0, rate=100)
    table.send(7, table.due(0.0))
    now = 1.0  # the first answer took a second; the others are sent then, and answered at once
    table.answer(7, now)
    while (due := table.due(now)) < inf:
        table.send(7, due)
        table.answer(7, now)
    assert (len(table.took), table.waiting) == (100, 0)
    p50, p90, p99, _ = milliseconds(table.took)
    assert (p50, p90, p99) == pytest.approx((510, 910, 1000))


def test_the_use_of_a_core_is_counted() -> None:
    """What is neither idle nor waiting for a disk is use, of the cores that are meant and no others."""
    before, after = (
        f"cpu  {used} 0 0 9000 0 0 0 0 0 0\ncpu1 {used} 0 50 {idle} {idle} 0 0 0 0 0\ncpu11 7 0 0 9 0 0 0 0 0 0\nintr 5"
        for used, idle in ((100, 200), (196, 202))
    )
    ticks = [machine.ticks(text, [1]) for text in (before, after)]
    assert ticks[1].percent_since(ticks[0]) == 96.0
    assert ticks[1].percent_since(ticks[1]) == 0.0


async def test_cost_of_a_server() -> None:
    """What a process has used grows with what it is asked, and it stays on the core that it was given."""
    async with bare("application", "asyncio") as server:
        before = machine.cpu(server.pids)
        await load(Job(server.host, server.port, REQUEST, "", connections=8, seconds=60, at_most=2_000))
        assert machine.cpu(server.pids) > before
        assert machine.resident(server.pids) > 1
        assert os.sched_getaffinity(server.pids[0]) == set(machine.SERVED)
