"""How a connection ends, and what is left of it: during a check, by a bug, by a timeout, or with the service."""

import asyncio
import gc
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from extauthz.core.reason import Reason
from extauthz.core.spend import NotApplied
from extauthz.transports.http import connection
from extauthz.transports.http import fast_check as fast_check_module
from extauthz.transports.http.answers import Answers
from tests.servers.serving import question
from tests.unit.service.asking import asked_at
from tests.unit.service.fakes import SECRET, FakeService, open_house
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
    held,
    tasks,
)

pytestmark = pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "aiohttp's way"])
SOON = 0.15  # seconds


def places(door: Door) -> dict[str, tuple[object, str]]:
    """Where a bug may be, on the path that a listener takes: the object that has it, and its name."""
    fake_service, limits = door.fake_service, (door.fake_service.limits, "begin")
    if door.fast_path:
        return {
            "read": (fast_check_module, "recognise"),
            "check": (fake_service.fast.memory, "find"),
            "limits": limits,
            "later": (fake_service.fast, "go_on"),
            "render": (Answers, "kept"),
        }
    return {
        "read": (door.handlers["envoy"].dialect, "read"),
        "check": (fake_service.service, "check"),
        "limits": limits,
        "later": (fake_service.limiter, "go_on"),
        "render": (door.handlers["envoy"].dialect, "render"),
    }


@pytest.fixture
async def fake_service(caplog: pytest.LogCaptureFixture) -> AsyncIterator[FakeService]:
    """Checks at the end what the loop reported of tasks and futures without a waiter."""
    async with open_house() as fake_service:
        yield fake_service
    gc.collect()
    await asyncio.sleep(0)
    assert not [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def test_client_that_leaves_during_a_check(fake_service: FakeService, fast_path: bool) -> None:
    """The check ends as usual, without an answer; the connection's task ends with it, and nothing is left."""
    async with Door(fake_service, fast_path=fast_path).open() as door:
        await door.warm()
        gate = await asked_at(fake_service, "spend")
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(door.client()) for _ in range(10)]
            for client in clients:
                client.send(WAITS)
            await door.has_read()
            assert (door.by_aiohttp == 1) is fast_path
            for client in clients:
                client.send(REFUSED[:9])
            await door.has_read()
        await door.has_read()
        assert len(tasks()) >= len(clients)
        gate.set()
        await all_over()
        assert [reason for _, reason in fake_service.watch.reasons].count(Reason.ALLOW) == len(clients) + 1


async def test_a_drain_in_the_middle_of_a_check(fake_service: FakeService, fast_path: bool) -> None:
    """The answer under way says that the connection ends, and it ends; what is behind it is not judged."""
    async with Door(fake_service, fast_path=fast_path).open() as door, door.client() as client, door.client() as idle:
        await idle.ask(REFUSED)
        gate = await held(door, client)
        client.send(REFUSED)
        await door.has_read()
        door.health.draining = True
        gate.set()
        said = await client.rest()
        assert decisions(said) == ["allow"]
        assert said.endswith(b"\r\nConnection: close\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in await idle.ask(REFUSED)
        assert await idle.rest() == b""


async def test_a_stop_in_the_middle_of_a_check(fake_service: FakeService, fast_path: bool) -> None:
    """A connection with a request is answered, whole; an idle one is closed."""
    async with AsyncExitStack() as stack:
        async with Door(fake_service, fast_path=fast_path).open() as door:
            client = await stack.enter_async_context(door.client())
            idle = await stack.enter_async_context(door.client())
            await idle.ask(REFUSED)
            gate = await held(door, client)
            asyncio.get_running_loop().call_later(2 * SOON, gate.set)  # by then it is being left
        said = await client.rest()
        assert decisions(said) == ["allow"]
        assert (b"\r\nConnection: close\r\n" in said) is fast_path  # aiohttp says so in a drain, which comes first
        assert await idle.rest() == b""
    await all_over()


async def test_a_stop_does_not_wait_for_ever(fake_service: FakeService, fast_path: bool) -> None:
    """A check that does not end is abandoned; its later result has no effect."""
    async with AsyncExitStack() as stack:
        async with Door(fake_service, fast_path=fast_path).open() as door:
            client = await stack.enter_async_context(door.client())
            gate = await held(door, client)
        assert await client.rest() == b""
        await all_over()
        gate.set()
        await asyncio.sleep(0)
    await all_over()


@pytest.mark.parametrize("place", ["read", "check", "limits", "later", "render"])
async def test_a_bug_is_logged_once(
    fake_service: FakeService,
    fast_path: bool,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Wherever it is, its client gets a 500 without details and the end; others are answered as before."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("sesame")

    async def fail_later(*_: object) -> None:
        await asyncio.sleep(0)
        raise TimeoutError("sesame")

    async with Door(fake_service, fast_path=fast_path).open() as door, door.client() as client, door.client() as other:
        await other.ask(ALLOWED)
        by_aiohttp = door.by_aiohttp
        with capture_logs() as logs, monkeypatch.context() as patch:
            if place == "later":
                fake_service.limits.first.append(NotApplied("unseeded", 0))
            owner, name = places(door)[place]
            patch.setattr(owner, name, fail_later if place == "later" else fail)
            client.send(ALLOWED)
            assert await client.rest() == (
                b"HTTP/1.1 500 Internal Server Error\r\ncache-control: no-store\r\nserver: extauthz\r\n"
                b"Content-Length: 0\r\nDate: -\r\nConnection: close\r\n\r\n"
            )
        assert [(entry["event"], bool(entry["exc_info"])) for entry in logs] == [("unhandled_exception", True)]
        assert (door.by_aiohttp == by_aiohttp) is fast_path
        assert decisions(await other.ask(ALLOWED)) == ["allow"]


async def test_a_check_that_is_cancelled(
    fake_service: FakeService, fast_path: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection ends, though its client is still there: also where it continues in a task of its own."""

    async def cancelled(*_: object) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with Door(fake_service, fast_path=fast_path).open() as door, door.client() as client:
        await door.warm()
        fake_service.limits.first.append(NotApplied("unseeded", 0))
        monkeypatch.setattr(fake_service.limiter, "go_on", cancelled)
        with capture_logs():
            client.send(ALLOWED)
            assert not decisions(await client.rest())
        await all_over()
        assert (door.by_aiohttp == 1) is fast_path


async def test_time_ends_idle_connections(
    fake_service: FakeService, fast_path: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without a request, with a part of one, or without a further one; never one during its check."""
    monkeypatch.setattr(connection, "KEEPALIVE", SOON)
    monkeypatch.setitem(connection._OPTIONS, "keepalive_timeout", SOON)
    async with Door(fake_service, fast_path=fast_path).open() as door, AsyncExitStack() as stack:
        waiting, silent, half, idle, late = [await stack.enter_async_context(door.client()) for _ in range(5)]
        gate = await held(door, waiting)
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


async def test_client_that_does_not_read_is_not_read(fake_service: FakeService, fast_path: bool) -> None:
    """Answers that are not read stop the checks; once they are read, none is missing."""
    door = Door(fake_service, fast_path=fast_path)
    for sock in door.sockets.values():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with door.open(), door.client(receive=4096) as client:
        sent, judged = 0, fake_service.watch.reasons
        while len(judged) == 2 * sent and sent < 2000:
            client.send(AMBIGUOUS)
            await door.has_read()  # by another connection, whose question is judged too
            sent += 1
        assert len(judged) == 2 * sent - 1
        assert (door.by_aiohttp <= 2) is fast_path
        client.send(AMBIGUOUS * 20_000)
        await door.has_read()
        assert len(judged) < 2 * sent + 100  # of 20,000: those that fit into what the kernel sends and holds
        for _ in range(sent + 1000):
            assert decisions(await client.answer()) == ["path_ambiguous"]


async def test_nothing_is_left_of_connections(fake_service: FakeService, fast_path: bool) -> None:
    """Many open and close, at any point of their work: afterwards no connection and no task of one is left."""
    vault = question("envoy", "/api/vault/1", key=SECRET)  # PostgreSQL is asked each time
    endings = [b"", ALLOWED, ALLOWED[:40], ALLOWED + REFUSED[:9], LAST, b"NONSENSE\r\n\r\n", ALLOWED * 40, vault]
    async with Door(fake_service, fast_path=fast_path).open() as door:
        await door.warm()
        for number in range(20 * len(endings)):
            async with door.client() as client:
                client.send(endings[number % len(endings)])
                if number % 3:
                    await door.has_read()
        async with asyncio.timeout(PATIENCE):
            while left := connections(gc.get_objects()):
                for _ in range(100):  # what was sent last may not have been read; a look takes far longer than a turn
                    await asyncio.sleep(0)
                await all_over()
                gc.collect()
        assert left == 0


async def test_a_check_leaves_no_cycle(fake_service: FakeService, fast_path: bool) -> None:
    """Garbage that only the collector can find does not grow with the checks."""
    async with Door(fake_service, fast_path=fast_path).open() as door, door.client() as client:
        await door.warm()
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
        assert (door.by_aiohttp == 1) is fast_path
