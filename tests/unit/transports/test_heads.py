"""Heads of requests must come in time and in bounds, on every listener, over TCP and over a Unix socket."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extauthz.service.check.limit_status import LimitStatusReader
from extauthz.service.health import Readiness
from extauthz.transports.http.bounded import HEAD_BYTES_MAX, HEAD_SECONDS, HEADER_LINES_MAX
from extauthz.transports.http.health import Reports, serve_admin
from extauthz.transports.http.listen import bind
from extauthz.transports.http.server import serve_checks
from extauthz.transports.http.usage import serve_usage
from tests.servers.raw_http import Wire
from tests.servers.serving import LISTENERS, question
from tests.unit.service.asking import asked_at
from tests.unit.service.fakes import SECRET, FakeService, open_house
from tests.unit.transports.check_listener import ALLOWED, REFUSED, WAITS, Door, decisions

SOON = 0.3  # seconds
DRIP = 0.03
ALL = (*LISTENERS, "usage", "admin")
WAYS = pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "full path"])
HEAD = b"GET /usage HTTP/1.1\r\nHost: h\r\nX-Slow: "


async def ready() -> Readiness:
    return Readiness(ready=True, draining=False, stores={})


async def no_metrics(_: str) -> tuple[bytes, str]:
    return b"", "text/plain"


@asynccontextmanager
async def listening(fake_service: FakeService, name: str, at: Path | None) -> AsyncIterator[socket.socket]:
    """A listener of that name on a free port, or on the Unix socket `at`."""
    sock = bind("127.0.0.1", 0, None if at is None else str(at))
    if name == "usage":
        opened = serve_usage(
            LimitStatusReader(fake_service.authentication, fake_service.limiter),
            sock,
            deadline=5,
            head_seconds=SOON,
        )
    elif name == "admin":
        opened = serve_admin(Reports(ready, no_metrics), sock, head_seconds=SOON)
    else:
        door = Door(fake_service, fast_path=True)
        for own in door.sockets.values():
            own.close()
        opened = serve_checks({sock: door.check_door(name)}, head_seconds=SOON)
    async with opened:
        yield sock


@asynccontextmanager
async def connected(sock: socket.socket) -> AsyncIterator[Wire]:
    """A connection to a listener."""
    address = sock.getsockname()
    if isinstance(address, str):
        reader, writer = await asyncio.open_unix_connection(address)
    else:
        reader, writer = await asyncio.open_connection(*address)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def seconds_until_the_end(connection: Wire, first: bytes, drip: bytes) -> float:
    """How long a connection lives whose bytes are dripped."""

    async def end() -> bytes:
        try:
            return await connection.ended()
        except BrokenPipeError:  # the last drip came too late
            return b""

    connection.send(first)
    began, ended = time.monotonic(), asyncio.ensure_future(end())
    while not (await asyncio.wait({ended}, timeout=DRIP))[0]:
        connection.send(drip)
    assert ended.result() == b""
    return time.monotonic() - began


def test_the_limit() -> None:
    """It is ten seconds, unless a test shortens it."""
    assert HEAD_SECONDS == 10


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("name", ALL)
async def test_a_dripped_head_ends_in_time(name: str, unix: bool, tmp_path: Path) -> None:
    """Whether a header, a request line or blank lines before it: the time is counted from the first byte."""
    async with open_house() as fake_service, listening(fake_service, name, tmp_path / "s" if unix else None) as sock:

        async def lives(first: bytes, drip: bytes) -> float:
            async with connected(sock) as connection:
                return await seconds_until_the_end(connection, first, drip)

        lives_long = await asyncio.gather(lives(HEAD, b"a"), lives(b"GET /", b"a"), lives(b"\r\n", b"\r\n"))
        assert all(SOON * 0.9 < seconds < 10 * SOON for seconds in lives_long), lives_long


@pytest.mark.parametrize("name", [*LISTENERS, "admin"])
async def test_an_idle_connection_is_kept(name: str) -> None:
    """The time limit of a head begins with its first byte, on a new connection and between two requests."""
    asked = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n" if name == "admin" else question(name, "/public/x")
    async with open_house() as fake_service, listening(fake_service, name, None) as sock, connected(sock) as connection:
        for _ in range(2):
            await asyncio.sleep(1.5 * SOON)
            for cut in (len(asked), 20):
                connection.send(asked[:cut])
                await asyncio.sleep(0)
                connection.send(asked[cut:])
                assert (await connection.answer()).status == 200


@WAYS
async def test_half_a_head_behind_a_request(fast_path: bool) -> None:
    """It has its time, too, from the byte that came with the request before it, also where that takes longer."""
    async with open_house() as fake_service, Door(fake_service, fast_path=fast_path, head_seconds=SOON).open() as door:
        async with door.client() as client:
            assert decisions(await client.ask(REFUSED + REFUSED[:30])) == ["no_credentials"]
            began = time.monotonic()
            assert await client.rest() == b""
            assert time.monotonic() - began < 10 * SOON
        await door.warm()
        before, gate = door.by_aiohttp, await asked_at(fake_service, "spend")
        async with door.client() as client, door.client() as other:
            for waiting in (client, other):
                waiting.send(WAITS)
            await door.has_read()
            assert (door.by_aiohttp == before) is fast_path
            client.send(ALLOWED[:30])
            other.send(REFUSED)
            await asyncio.sleep(1.5 * SOON)
            gate.set()
            assert decisions(await client.rest()) == ["allow"]
            assert decisions(await other.answer() + await other.answer()) == ["allow", "no_credentials"]


@WAYS
@pytest.mark.parametrize("listener", LISTENERS)
async def test_many_header_lines(listener: str, fast_path: bool) -> None:
    """Far more than a library's default are judged; beyond the bound of lines or size, it is denied."""
    async with open_house() as fake_service, Door(fake_service, fast_path=fast_path).open() as door:
        asked = question(listener, "/api/customers/7", key=SECRET)
        for lines in (1, 125, 126, 127, 128, 129, 200, HEADER_LINES_MAX - 10):
            async with door.client(listener) as client:
                more = b"".join(b"X-Line-%d: x\r\n" % number for number in range(lines))
                assert decisions(await client.ask(asked.removesuffix(b"\r\n") + more + b"\r\n")) == ["allow"]
        for more in (b"X: x\r\n" * (HEADER_LINES_MAX + 1), (b"X: " + b"x" * 60_000 + b"\r\n") * 30):
            async with door.client(listener) as client:
                client.send(asked.removesuffix(b"\r\n") + more + b"\r\n")
                answer = await client.answer()
                assert decisions(answer) == ["bad_proxy_request"]
                assert b" 403 " in answer.partition(b"\r\n")[0]
                assert not await client.rest()


async def test_a_head_without_end() -> None:
    """It is refused as soon as it is too large, and what is sent behind that is not read into memory."""
    async with open_house() as fake_service, Door(fake_service, fast_path=True).open() as door, door.client() as client:
        client.send(ALLOWED.removesuffix(b"\r\n"))
        line = b"X: " + b"x" * 32_000 + b"\r\n"
        for _ in range(HEAD_BYTES_MAX // len(line) + 2):
            client.send(line)
        assert decisions(await client.answer()) == ["bad_proxy_request"]
