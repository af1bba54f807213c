"""How a connection ends, and what is left of it: in the middle of a check, by a bug, by time, or with the service."""

import asyncio
import gc
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest
from structlog.testing import capture_logs

from extauthz.transports.http import connection
from tests.unit.service.asking import asked_at
from tests.unit.service.fakes import House, open_house
from tests.unit.transports.check_listener import (
    ALLOWED,
    AMBIGUOUS,
    LAST,
    PATIENCE,
    REFUSED,
    WAITS,
    Door,
    all_over,
    connections,
    decisions,
    tasks,
)

pytestmark = pytest.mark.parametrize("short_way", [True, False], ids=["short way", "aiohttp's way"])
SOON = 0.15  # seconds


@pytest.fixture
async def house(caplog: pytest.LogCaptureFixture) -> AsyncIterator[House]:
    """Ends with a look at what the loop had to say of tasks and futures that nobody minds."""
    async with open_house() as house:
        yield house
    gc.collect()
    await asyncio.sleep(0)
    assert not [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def test_who_leaves_in_the_middle_of_a_check(house: House, short_way: bool) -> None:
    """The check ends as it would have, for nobody; the task of the connection ends with it, and nothing is left."""
    async with Door(house, short_way=short_way).open() as door:
        gate = await asked_at(house, "find")
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(door.client()) for _ in range(10)]
            for client in clients:
                client.send(WAITS + REFUSED[:9])
            await house.keys.entered.acquire()
            await door.has_read()
        await door.has_read()
        assert len(tasks()) >= len(clients)
        gate.set()
        await all_over()
        assert [decision.reason.value for _, decision in house.watch.decisions].count("allow") == len(clients)


async def test_a_drain_in_the_middle_of_a_check(house: House, short_way: bool) -> None:
    """The answer under way says that the connection ends, and it ends; what is behind it is not judged."""
    async with Door(house, short_way=short_way).open() as door, door.client() as client, door.client() as idle:
        await idle.ask(REFUSED)
        gate = await asked_at(house, "find")
        client.send(WAITS)
        await house.keys.entered.acquire()
        client.send(REFUSED)
        await door.has_read()
        door.health.draining = True
        gate.set()
        said = await client.rest()
        assert decisions(said) == ["allow"]
        assert said.endswith(b"\r\nConnection: close\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in await idle.ask(REFUSED)
        assert await idle.rest() == b""


async def test_a_stop_in_the_middle_of_a_check(house: House, short_way: bool) -> None:
    """Who has asked is answered, whole; who has not is sent away."""
    gate = await asked_at(house, "find")
    async with AsyncExitStack() as stack:
        async with Door(house, short_way=short_way).open() as door:
            client = await stack.enter_async_context(door.client())
            idle = await stack.enter_async_context(door.client())
            await idle.ask(REFUSED)
            client.send(WAITS)
            await house.keys.entered.acquire()
            asyncio.get_running_loop().call_later(2 * SOON, gate.set)  # by then it is being left
        said = await client.rest()
        assert decisions(said) == ["allow"]
        assert (b"\r\nConnection: close\r\n" in said) is short_way  # aiohttp says so in a drain, which comes first
        assert await idle.rest() == b""
    await all_over()


async def test_a_stop_does_not_wait_for_ever(house: House, short_way: bool) -> None:
    """A check that does not end is left; when it does, nothing comes of it."""
    gate = await asked_at(house, "find")
    async with AsyncExitStack() as stack:
        async with Door(house, short_way=short_way).open() as door:
            client = await stack.enter_async_context(door.client())
            client.send(WAITS)
            await house.keys.entered.acquire()
        assert await client.rest() == b""
        await all_over()
        gate.set()
        await asyncio.sleep(0)
    await all_over()


@pytest.mark.parametrize("place", ["read", "check", "later", "render"])
async def test_a_bug_is_told_once(
    house: House, short_way: bool, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever it is, who asked gets a 500 without a word about it and the end; others are answered as before."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("sesame")

    async def fail_later(_: object) -> None:
        await asyncio.sleep(0)
        raise TimeoutError("sesame")

    async with Door(house, short_way=short_way).open() as door, door.client() as client, door.client() as other:
        await other.ask(ALLOWED)
        dialect = door.handlers["envoy"]._dialect
        with capture_logs() as logs, monkeypatch.context() as patch:
            if place in ("check", "later"):
                patch.setattr(house.service, "check", fail if place == "check" else fail_later)
            else:
                patch.setattr(dialect, place, fail)
            client.send(ALLOWED)
            assert await client.rest() == (
                b"HTTP/1.1 500 Internal Server Error\r\ncache-control: no-store\r\nserver: extauthz\r\n"
                b"Content-Length: 0\r\nDate: -\r\nConnection: close\r\n\r\n"
            )
        assert [(entry["event"], bool(entry["exc_info"])) for entry in logs] == [("bug", True)]
        assert decisions(await other.ask(ALLOWED)) == ["allow"]


async def test_a_check_that_is_cancelled(house: House, short_way: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection ends, though nobody has left."""

    async def cancelled(_: object) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with Door(house, short_way=short_way).open() as door, door.client() as client:
        monkeypatch.setattr(house.service, "check", cancelled)
        with capture_logs():
            client.send(ALLOWED)
            await client.rest()
        await all_over()


async def test_time_ends_idle_connections(house: House, short_way: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has asked nothing, half a question, or nothing more; never one whose check is under way."""
    monkeypatch.setattr(connection, "KEEPALIVE", SOON)
    monkeypatch.setitem(connection._OPTIONS, "keepalive_timeout", SOON)
    async with Door(house, short_way=short_way).open() as door, AsyncExitStack() as stack:
        waiting, silent, half, idle, late = [await stack.enter_async_context(door.client()) for _ in range(5)]
        gate = await asked_at(house, "find")
        waiting.send(WAITS)
        await house.keys.entered.acquire()
        half.send(ALLOWED[:-1])
        await idle.ask(REFUSED)
        await late.ask(REFUSED)
        late.send(REFUSED[:-1])
        for client in (silent, half, idle, late):
            assert await client.rest() == b""
        async with door.client() as another:  # as long again
            assert await another.rest() == b""
        gate.set()
        assert decisions(await waiting.answer()) == ["allow"]
        assert decisions(await waiting.ask(AMBIGUOUS)) == ["path_ambiguous"]
        assert await waiting.rest() == b""


async def test_who_does_not_read_is_not_read(house: House, short_way: bool) -> None:
    """Answers that are not taken stop the checks; once they are taken, none is missing."""
    door = Door(house, short_way=short_way)
    for sock in door.sockets.values():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with door.open(), door.client(receive=4096) as client:
        handler, sent = door.handlers["envoy"], 0
        with suppress(TimeoutError):
            while sent < 2000:
                client.send(AMBIGUOUS)
                sent += 1
                async with asyncio.timeout(1):
                    await handler.judging.acquire()
        assert handler.judged == sent - 1
        client.send(AMBIGUOUS * 20_000)
        await door.has_read()
        assert handler.judged <= sent + 1  # and the one of the other connection
        for _ in range(sent + 1000):
            assert decisions(await client.answer()) == ["path_ambiguous"]


async def test_nothing_is_left_of_connections(house: House, short_way: bool) -> None:
    """Many come and go, in the middle of whatever they do: afterwards there is no connection and no task of one."""
    endings = [b"", ALLOWED, ALLOWED[:40], ALLOWED + REFUSED[:9], LAST, b"NONSENSE\r\n\r\n", ALLOWED * 40, WAITS]
    async with Door(house, short_way=short_way).open() as door:
        house.keys.gates["find"] = asyncio.Event()
        house.keys.gates["find"].set()
        for number in range(50 * len(endings)):
            async with door.client() as client:
                client.send(endings[number % len(endings)])
                if number % 3:
                    await door.has_read()
        await all_over()
        async with asyncio.timeout(PATIENCE):
            while left := connections(gc.get_objects()):
                gc.collect()
                await asyncio.sleep(0)
        assert left == 0


async def test_a_check_leaves_no_cycle(house: House, short_way: bool) -> None:
    """What the garbage collector would have to find does not grow with the checks."""
    async with Door(house, short_way=short_way).open() as door, door.client() as client:
        await client.ask(WAITS)
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                await client.ask(AMBIGUOUS)
                await client.ask(ALLOWED)
            found = gc.collect()
        finally:
            gc.enable()
        assert found < 100
