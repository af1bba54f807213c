"""The hurting proxy, on which other tests depend: each harm does what it says, on a real server."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from extauthz.demo.folders import temporary_folder
from extauthz.demo.redis import Redis
from tests.servers.hurting_proxy import HurtingProxy


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with temporary_folder("extauthz test ") as path, Redis(Path(path)) as running:
        yield running


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: bytes) -> bytes:
    writer.write(question + b"\r\n")
    return await reader.readline()


async def test_answers_come_late_get_lost_or_are_forged(server: Redis) -> None:
    """An open connection feels delay, loss and forgery at once; a lost answer's work was done by the server."""
    async with HurtingProxy("127.0.0.1", server.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await ask(reader, writer, b"INCR n") == b":1\r\n"
        proxy.delay = 0.05
        begun = asyncio.get_running_loop().time()
        assert await ask(reader, writer, b"INCR n") == b":2\r\n"
        assert asyncio.get_running_loop().time() - begun >= 0.05
        proxy.delay, proxy.swallow = 0, True
        writer.write(b"INCR n\r\n")
        await proxy.swallowed.wait()
        proxy.swallow = False
        assert await ask(reader, writer, b"GET n") == b"$1\r\n"
        assert await reader.readline() == b"3\r\n"
        proxy.inject(b"+stray\r\n")
        assert await reader.readline() == b"+stray\r\n"
        writer.close()
        await writer.wait_closed()


async def test_connections_are_cut_and_refused(server: Redis) -> None:
    """A cut is a reset; a refusal is the kernel's own, ends what is open, and can be taken back on the same port."""
    async with HurtingProxy("127.0.0.1", server.port) as proxy:
        for harm in (proxy.cut, proxy.refuse):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await ask(reader, writer, b"PING") == b"+PONG\r\n"
            if (waiting := harm()) is not None:
                await waiting
            with pytest.raises(ConnectionResetError):
                await reader.readline()
            writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.accept()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await ask(reader, writer, b"PING") == b"+PONG\r\n"
        assert proxy.connections == 3
        writer.close()


async def test_a_server_that_refuses_ends_the_connection(server: Redis) -> None:
    """Where no server listens behind the proxy the client's connection ends at once."""
    async with HurtingProxy("127.0.0.1", 1) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
