"""Check listeners: aiohttp's HTTP server with our own handler, our own refusals and no echo of what a client sent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from extauthz.transports.http.accept import LAST_CALL, Acceptor
from extauthz.transports.http.bounded import HEAD_SECONDS
from extauthz.transports.http.connection import CheckConnection
from extauthz.transports.http.fast_path import FastPath
from extauthz.transports.http.handler import CheckHandler


@dataclass(frozen=True, slots=True)
class CheckDoor:
    """How one listener answers: its handler, and its fast path where it has one."""

    handler: CheckHandler
    fast_path: FastPath | None


@asynccontextmanager
async def serve_checks(
    doors: Mapping[socket.socket, CheckDoor], *, head_seconds: float = HEAD_SECONDS
) -> AsyncIterator[None]:
    """Answers checks on listening sockets until left; connections made by then are still answered.

    `head_seconds` as for CheckConnection.
    """
    listeners = [_Listener(sock, door, head_seconds=head_seconds) for sock, door in doors.items()]
    for listener in listeners:
        await listener.open()
    try:
        yield
    finally:
        await asyncio.gather(*(listener.close() for listener in listeners))


class _Listener:
    """One socket and the connections that came in by it."""

    def __init__(self, sock: socket.socket, door: CheckDoor, *, head_seconds: float) -> None:
        self._manager = manager = web.Server(door.handler.answer)
        loop = asyncio.get_running_loop()

        def connection() -> CheckConnection:
            return CheckConnection(manager, door.handler, loop, fast_path=door.fast_path, head_seconds=head_seconds)

        self._acceptor = Acceptor(connection, sock)

    async def open(self) -> None:
        await self._acceptor.open()

    async def close(self) -> None:
        await self._acceptor.close()
        await asyncio.sleep(LAST_CALL)
        self._manager.pre_shutdown()
        await self._manager.shutdown(1.0)
