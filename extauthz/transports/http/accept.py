"""Takes connections from a listening socket, also when descriptors run out and when the listener ends.

asyncio's own way tries ever more often where no descriptor is left, and every loop's resets what waits when it ends.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import suppress

import structlog

from extauthz.aio.tasks import TaskSet
from extauthz.transports.http.listen import listen

LAST_CALL = 0.2  # seconds for the request of a connection that was made just before we stopped listening
BACKLOG = 1024  # connections that wait in the kernel
ACCEPTS_PER_TURN_MAX = 64  # before other work of the loop has its turn
RETRY_SECONDS = 1.0


class Acceptor:
    """Makes a protocol by `connection` for each connection to a bound socket, until closed.

    On uvloop by its own server, which gives a connection up that it has no descriptor for.
    """

    def __init__(self, connection: Callable[[], asyncio.BaseProtocol], sock: socket.socket) -> None:
        self._connection = connection
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._beginning = TaskSet()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begins to accept. Raises AddressTaken where another process has begun on the same address meanwhile."""
        self._sock.setblocking(False)
        listen(self._sock, BACKLOG)
        if isinstance(self._loop, asyncio.BaseEventLoop):
            self._loop.add_reader(self._sock, self._accept)
        else:
            self._server = await self._loop.create_server(self._connection, sock=self._sock, backlog=BACKLOG)

    async def close(self) -> None:
        """Takes the connections that wait already, and closes the socket."""
        with suppress(OSError):
            self._take(BACKLOG)
        if self._server is None:
            self._loop.remove_reader(self._sock)
        else:
            self._server.close()
        if self._retry is not None:
            self._retry.cancel()
        self._sock.close()
        await self._beginning.wait()

    def _accept(self) -> None:
        self._retry = None
        try:
            self._take(ACCEPTS_PER_TURN_MAX)
        except OSError as error:
            # The socket stays readable, so that waiting for that alone would be a busy loop.
            self._loop.remove_reader(self._sock)
            self._retry = self._loop.call_later(RETRY_SECONDS, self._loop.add_reader, self._sock, self._accept)
            structlog.get_logger().error("accept_failed", error=errno.errorcode.get(error.errno or 0, "unknown"))

    def _take(self, most: int) -> int:
        """Takes at most so many connections; how many there were. Raises OSError where the system has no room."""
        for taken in range(most):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return taken
            except ConnectionAbortedError:
                continue
            connection.setblocking(False)
            self._beginning.start(self._begin(connection))
        return most

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connection, connection)
        except OSError:  # the other side has gone
            connection.close()
