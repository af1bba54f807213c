"""A TCP proxy that hurts: it stands before a real server and delays, loses, cuts, refuses or forges its answers.

async with HurtingProxy("127.0.0.1", 6379) as proxy:
    proxy.delay = 0.05               # answers come 50 ms late
    proxy.swallow = True             # the server does its work, its answers are lost
    await proxy.swallowed.wait()     # ... and has done it
    proxy.cut()                      # every open connection is reset
    proxy.reject = True              # new connections are reset as soon as they are there
    await proxy.refuse()             # the port is closed
    await proxy.accept()             # the same port is open again
    proxy.lead_to("127.0.0.1", 6380) # new connections lead to another server, open ones stay where they are
    proxy.inject(b"+stray\\r\\n")      # bytes that no server sent
"""

import asyncio
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from typing import Self

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HurtingProxy:
    """Harms can be changed at any time and hold for open connections too; `port` stays the same throughout."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.delay = 0.0  # seconds
        self.swallow = False
        self.reject = False
        self.swallowed = asyncio.Event()
        self.connections = 0  # accepted so far
        self._target = (host, port)
        self._listener: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def accept(self) -> None:
        """Listens: at first on any free port, later on the same one again."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cuts every connection and stops listening, so that new ones are refused by the kernel."""
        if self._listener is not None:
            self._listener.close()
        self.cut()
        await asyncio.gather(*self._tasks)

    def cut(self) -> None:
        """Resets every open connection, whatever is under way on it."""
        for client in self._clients:
            _reset(client)

    def lead_to(self, host: str, port: int) -> None:
        """New connections lead to another server, as where an address has moved; open ones stay where they are."""
        self._target = (host, port)

    def inject(self, data: bytes) -> None:
        """Sends bytes that no server sent to every client."""
        for client in self._clients:
            client.write(data)

    async def _serve(self, questions: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._tasks.add(task)
        self._clients.add(client)
        try:
            if self.reject:
                raise ConnectionResetError
            answers, server = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(client)
        else:
            await self._carry(self._ask(questions, server), self._answer(answers, client))
            server.close()
            client.close()
        finally:
            self._clients.discard(client)
            self._tasks.discard(task)

    @staticmethod
    async def _carry(*ways: Coroutine[None, None, None]) -> None:
        """Both ways, until one of them ends."""
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            with suppress(ConnectionError, asyncio.CancelledError):
                await task

    async def _ask(self, questions: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await questions.read(65_536):
            server.write(data)
            await server.drain()

    async def _answer(self, answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await answers.read(65_536):
            await asyncio.sleep(self.delay)
            if self.swallow:
                self.swallowed.set()
            else:
                client.write(data)
                await client.drain()


def _reset(client: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # it has closed of its own accord
        client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    client.transport.abort()
