"""Check listeners: aiohttp's HTTP server with our own handler, our own refusals and no echo of what a client sent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from extauthz.transports.http.connection import CheckConnection
from extauthz.transports.http.handler import CheckHandler

BACKLOG = 1024
LAST_CALL = 0.2  # seconds for the request of a connection that was made just before we stopped listening


@asynccontextmanager
async def serve_checks(
    handlers: Mapping[socket.socket, CheckHandler], *, short_way: bool = True
) -> AsyncIterator[None]:
    """Answers checks on listening sockets until left; who has connected by then is still heard, and answered.

    `short_way` as for CheckConnection.
    """
    listeners = [_Listener(sock, handler, short_way=short_way) for sock, handler in handlers.items()]
    for listener in listeners:
        await listener.open()
    try:
        yield
    finally:
        await asyncio.gather(*(listener.close() for listener in listeners))


class _Listener:
    """One socket and the connections that came in by it."""

    def __init__(self, sock: socket.socket, handler: CheckHandler, *, short_way: bool) -> None:
        self._sock = sock
        self._manager = manager = web.Server(handler.answer)
        self._loop = loop = asyncio.get_running_loop()
        self._connection = lambda: CheckConnection(manager, handler, loop, short_way=short_way)

    async def open(self) -> None:
        self._server = await self._loop.create_server(self._connection, sock=self._sock, backlog=BACKLOG)

    async def close(self) -> None:
        waiting = list(self._waiting())
        self._server.close()  # would have reset them
        for connection in waiting:
            await self._loop.connect_accepted_socket(self._connection, connection)
        await asyncio.sleep(LAST_CALL)
        self._manager.pre_shutdown()
        await self._manager.shutdown(1.0)

    def _waiting(self) -> Iterator[socket.socket]:
        """Who has connected and was not taken in yet."""
        with suppress(OSError):  # there is nobody else
            for _ in range(BACKLOG):
                yield self._sock.accept()[0]
