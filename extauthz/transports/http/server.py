"""Check listeners: aiohttp's HTTP server with our own handler, our own refusals and no echo of what a client sent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from extauthz.transports.http.accept import LAST_CALL, Acceptor
from extauthz.transports.http.bounded import HEAD_SECONDS
from extauthz.transports.http.connection import CheckConnection
from extauthz.transports.http.handler import CheckHandler


@asynccontextmanager
async def serve_checks(
    handlers: Mapping[socket.socket, CheckHandler], *, short_way: bool = True, head_seconds: float = HEAD_SECONDS
) -> AsyncIterator[None]:
    """Answers checks on listening sockets until left; who has connected by then is still heard, and answered.

    `short_way` and `head_seconds` as for CheckConnection.
    """
    listeners = [
        _Listener(sock, handler, short_way=short_way, head_seconds=head_seconds) for sock, handler in handlers.items()
    ]
    for listener in listeners:
        await listener.open()
    try:
        yield
    finally:
        await asyncio.gather(*(listener.close() for listener in listeners))


class _Listener:
    """One socket and the connections that came in by it."""

    def __init__(self, sock: socket.socket, handler: CheckHandler, *, short_way: bool, head_seconds: float) -> None:
        self._manager = manager = web.Server(handler.answer)
        loop = asyncio.get_running_loop()

        def connection() -> CheckConnection:
            return CheckConnection(manager, handler, loop, short_way=short_way, head_seconds=head_seconds)

        self._acceptor = Acceptor(connection, sock)

    async def open(self) -> None:
        await self._acceptor.open()

    async def close(self) -> None:
        await self._acceptor.close()
        await asyncio.sleep(LAST_CALL)
        self._manager.pre_shutdown()
        await self._manager.shutdown(1.0)
