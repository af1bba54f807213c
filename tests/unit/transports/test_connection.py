"""Requests of one connection: in pieces, pipelined, and during a check; each is answered once and in its order."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from extauthz.core.limits import Limits
from tests.unit.service.fakes import KEY, TENANT, open_house
from tests.unit.transports.check_listener import ALLOWED, AMBIGUOUS, LAST, REFUSED, Door, decisions, held, with_line


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A service whose key has been used, and its fast path."""
    async with open_house() as fake_service, Door(fake_service, fast_path=True).open() as door:
        fake_service.change(replace(KEY, tenant=replace(TENANT, limits=Limits())))
        await door.warm()
        assert door.by_aiohttp == 1
        yield door


async def test_a_request_in_pieces(door: Door) -> None:
    """Wherever a request is cut, it is answered once it is whole; the next ones take the fast path again."""
    async with door.client() as client:
        for cut in range(1, len(ALLOWED), 7):
            client.send(ALLOWED[:cut])
            await door.has_read()
            assert decisions(await client.ask(ALLOWED[cut:])) == ["allow"]
            assert decisions(await client.ask(ALLOWED)) == ["allow"]  # aiohttp's where the end of a head was cut
            by_aiohttp = door.by_aiohttp
            assert decisions(await client.ask(ALLOWED)) == ["allow"]
            assert door.by_aiohttp == by_aiohttp
        client.send(REFUSED + ALLOWED[:50])
        assert decisions(await client.answer()) == ["no_credentials"]
        assert decisions(await client.ask(ALLOWED[50:])) == ["allow"]


async def test_pipelined_requests_are_answered_in_order(door: Door) -> None:
    """All that come together, also more than are taken in at once."""
    asked, expected = [ALLOWED, REFUSED, AMBIGUOUS], ["allow", "no_credentials", "path_ambiguous"]
    async with door.client() as client:
        for times in (1, 11, 100):
            client.send(b"".join(asked * times) + LAST[:30])
            answers = [await client.answer() for _ in range(3 * times)]
            assert decisions(b"".join(answers)) == expected * times
            client.send(LAST[30:].replace(b"Connection: close\r\n", b""))
            assert decisions(await client.answer()) == ["no_credentials"]


@pytest.mark.parametrize("fast_path", [True, False])
@pytest.mark.parametrize("more", [1, 40, 200])
async def test_what_comes_during_a_check_waits_for_it(more: int, fast_path: bool) -> None:
    """Requests that arrive while one is judged are answered behind it, in order, and each once."""
    async with (
        open_house() as fake_service,
        Door(fake_service, fast_path=fast_path).open() as door,
        door.client() as client,
    ):
        gate = await held(door, client)
        for _ in range(more):
            client.send(AMBIGUOUS + REFUSED)
        client.send(REFUSED[:20])
        await door.has_read()
        assert len(fake_service.watch.reasons) == 2  # of other connections
        gate.set()
        client.send(REFUSED[20:] + LAST)
        expected = ["allow", *["path_ambiguous", "no_credentials"] * more, "no_credentials", "no_credentials"]
        assert decisions(await client.rest()) == expected
        assert len(fake_service.watch.reasons) == len(expected) + 2


@pytest.mark.parametrize("fast_path", [True, False])
@pytest.mark.parametrize("line", [b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Upgrade: h2c", b"Nonsense"])
async def test_what_comes_during_a_check_and_is_not_plain(line: bytes, fast_path: bool) -> None:
    """It is answered after the check, with the end of the connection; nothing behind it is judged."""
    async with (
        open_house() as fake_service,
        Door(fake_service, fast_path=fast_path).open() as door,
        door.client() as client,
    ):
        gate = await held(door, client)
        client.send(with_line(line))
        await door.has_read()
        client.send(ALLOWED)
        await door.has_read()
        gate.set()
        said = decisions(await client.rest())
        assert said == ["allow", "bad_proxy_request" if line == b"Nonsense" else "allow"]


async def test_a_plain_request_behind_a_body(door: Door) -> None:
    """What announces a body is the last of its connection, whether the body has come or not."""
    for body in (b"", b"abc", b"abc" + ALLOWED):
        async with door.client() as client:
            await client.ask(ALLOWED)
            answer = await client.ask(with_line(b"Content-Length: 3", method=b"POST") + body)
            assert b"\r\nConnection: close\r\n" in answer
            client.send(ALLOWED)
            assert await client.rest() == b""


async def test_a_connection_changes_its_way(door: Door) -> None:
    """After pipelined requests, which aiohttp answers, a plain one takes the fast path again."""
    async with door.client() as client:
        for _ in range(3):
            client.send(ALLOWED * 5)
            for _ in range(5):
                assert decisions(await client.answer()) == ["allow"]
            before = door.by_aiohttp
            assert before % 5 == 1  # and the first check of the key
            for _ in range(5):
                assert decisions(await client.ask(ALLOWED)) == ["allow"]
            assert door.by_aiohttp == before
