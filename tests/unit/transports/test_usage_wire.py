"""The usage listener on the wire: its one path, its two methods, and malformed requests."""

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from tests.servers.raw_http import ask, wire
from tests.unit.service.asking import asked_at
from tests.unit.service.fakes import SECRET
from tests.unit.transports.usage_listener import GOOD, Usage, check_problem, listening, usage

__all__ = ["usage"]


REQUEST = f"GET /usage HTTP/1.1\r\nHost: h\r\n{GOOD}\r\n".encode()


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/usage/",
        "/usage/x",
        "/usages",
        "/Usage",
        "/usage;x",
        "/%75sage",
        "//usage",
        "/x/../usage",
        "/livez",
        "/metrics",
        "/v1/usage",
        "http://h/usage",
        "/unheard-of?/usage",
    ],
)
async def test_there_is_one_path(usage: Usage, target: str) -> None:
    """Any other path is 404, with or without a key, and the key is not read."""
    for more in (GOOD, ""):
        check_problem(await usage.ask(more, target=target), 404, "not_found")
    assert usage.fake_service.keys.calls == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"])
async def test_there_are_two_methods(usage: Usage, method: str) -> None:
    """Any other method is 405, which names them."""
    answer = await usage.ask(method=method)
    check_problem(answer, 405, "method_not_allowed")
    assert answer["allow"] == "GET, HEAD"
    assert usage.fake_service.keys.calls == 0


async def test_head_and_a_query(usage: Usage) -> None:
    """HEAD has the headers of GET, the length of its body and no body; a query changes nothing."""
    get, head, queried = await usage.ask(), await usage.ask(method="HEAD"), await usage.ask(target="/usage?key=x")
    assert head.status == queried.status == 200
    assert (head["content-length"], head["content-type"]) == (str(len(get.body)), "application/json")
    assert queried.body == get.body
    refused = await usage.ask("", method="HEAD")
    assert (refused.status, refused.decision) == (401, "no_credentials")


@pytest.mark.parametrize(
    "more",
    [
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\nContent-Length: 5\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    ],
)
async def test_nothing_behind_a_request_is_read(usage: Usage, more: str) -> None:
    """One answer comes at once, and no other, whatever follows; 400 where what follows is malformed."""
    for late in (b"", b"hello", REQUEST, b"0\r\n\r\n" + REQUEST):
        async with wire(usage.port) as connection:
            connection.send(REQUEST.replace(b"\r\n\r\n", f"\r\n{more}\r\n".encode()) + late)
            assert (await connection.answer()).status in ({200, 400} if late else {200})
            assert await connection.ended() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"UNHEARD-OF\r\n\r\n",
        REQUEST.replace(b"GET", b"unheard-of"),
        b"GET /usage HTTP/9.unheard\r\n\r\n",
        REQUEST.replace(b"Host: h", b"unheard of: x"),
        REQUEST.replace(b"Bearer ", b"Bearer unheard\x01"),
        REQUEST.replace(b"Host: h", b"Content-Length: unheard"),
        b"GET /usage HTTP/1.1\r\nUnheard-Of: " + b"x" * 70_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=["word", "method", "version", "name", "control", "length", "long", "tls"],
)
async def test_malformed_bytes(usage: Usage, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Malformed bytes get 400 and the end; neither the answer nor the log repeats them."""
    caplog.set_level(logging.DEBUG)
    check_problem(await ask(usage.port, data), 400, "bad_request")
    assert SECRET[8:20] not in caplog.text
    assert "unheard" not in caplog.text.lower()


async def test_60_kib_of_headers_are_taken(usage: Usage) -> None:
    """As much as Envoy passes; a credential of that length matches no key."""
    long = "h" * 60 * 1024
    assert (await usage.ask(f"X-Long: {long}\r\n{GOOD}")).status == 200
    assert (await usage.ask(f"Authorization: Bearer {long}\r\n")).decision == "invalid_credentials"


async def test_request_that_was_read_is_answered_at_the_end(usage: Usage) -> None:
    """A listener that closes answers the request that it has read, and accepts no other."""
    gate = await asked_at(usage.fake_service, "find")
    async with AsyncExitStack() as stack:
        async with listening(usage.fake_service) as ending:
            connection = await stack.enter_async_context(wire(ending.port))
            connection.send(REQUEST)
            await usage.fake_service.keys.entered.acquire()
            asyncio.get_running_loop().call_soon(gate.set)  # by then it is being left
        assert (await connection.answer()).status == 200
    with pytest.raises(ConnectionRefusedError):
        await ask(ending.port, REQUEST)
