"""The one connection that all checks of a process share: commands leave together, answers come back in order.

redis-py gives each command in flight a connection of its own, and the price of that is most of a check. Here commands
of one turn of the loop go out in one write. Nothing is ever sent a second time.
"""

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import hiredis
from redis import exceptions as redis
from redis.asyncio import ConnectionPool, SSLConnection, UnixDomainSocketConnection

from extauthz.backends.redis.errors import refusal, translated

CALLS_AT_ONCE = 4096  # they share the connection; this bounds what a flood can pile up
CONNECT_TIMEOUT = 1.0  # seconds
RETIREMENT = 1.0  # seconds in which a connection that was replaced may still bring its answers

_INCOMPLETE = object()
NO_EPOCH = "0"
_SERVER, _HISTORY = re.compile(rb"run_id:([0-9a-f]{40})"), re.compile(rb"master_replid:([0-9a-f]{40})")


class Commands(Protocol):
    """Whatever sends a command to Redis and awaits its answer: a Link, or the client library."""

    async def execute_command(self, *args: Any) -> Any:
        """The answer of one command; raises what `errors.translated` knows."""
        ...


class _Wire(asyncio.Protocol):
    """One connection. It ends at the first byte that nobody has asked for."""

    def __init__(self) -> None:
        self._parser = hiredis.Reader(replyError=refusal, notEnoughData=_INCOMPLETE)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        # Somebody has left without an answer, and no byte has come since: the other side may be gone.
        self.doubtful = False
        self.epoch = NO_EPOCH

    @property
    def open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.doubtful = False
        try:
            self._parser.feed(data)
            while self._waiting and (answer := self._parser.gets()) is not _INCOMPLETE:
                waiter = self._waiting.popleft()
                if waiter.done():  # who asked has left; the answer was still theirs
                    continue
                if isinstance(answer, Exception):
                    waiter.set_exception(answer)
                else:
                    waiter.set_result(answer)
            if not self._waiting and self._parser.has_data():
                self.close()
        except hiredis.ProtocolError:
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(redis.ConnectionError("the connection to Redis was lost"))
        self._waiting.clear()

    def ask(self, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        waiter: asyncio.Future[Any] = self._loop.create_future()
        if self._transport is None:
            waiter.set_exception(redis.ConnectionError("the connection to Redis was lost"))
            return waiter
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(hiredis.pack_command(arguments))
        self._waiting.append(waiter)
        return waiter

    def _send(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def close(self) -> None:
        """Ends the connection; whoever still waits on it is told so."""
        if self._transport is not None:
            self._transport.abort()
            self.connection_lost(None)

    def retire(self) -> None:
        """Ends the connection, now if nobody waits, else a little later."""
        if self._waiting:
            self._loop.call_later(RETIREMENT, self.close)
        else:
            self.close()


class Link:
    """A connection to a single Redis that opens when it is needed, and again after it was lost.

    `epoch_known` is told, again and again, whether Redis says whose memory it is.
    """

    def __init__(self, url: str, *, epoch_known: Callable[[bool], None] = lambda _: None) -> None:
        # The library reads the address, and is not asked to connect.
        self._address = ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # it has no hint
        self._epoch_known = epoch_known
        self._wire: _Wire | None = None
        self._opening: asyncio.Task[_Wire] | None = None

    async def execute_command(self, *args: Any) -> Any:
        """The answer of one command, as Redis sent it. Never sent twice; a caller who leaves harms no other."""
        return await _asked(await self._connected(), args)

    async def epoch(self) -> str:
        """Whose memory the connection leads to; NO_EPOCH if Redis does not say.

        Another after a restart, on another server, and where a replica became the master; what became of the memory
        since this was last looked at is seen by the next `probe`.
        """
        return (await self._connected()).epoch

    async def probe(self) -> None:
        """Returns when Redis answers, on a new connection where there is doubt about the old one.

        Raises StoreUnavailable.
        """
        if self._wire is not None and self._wire.doubtful:
            self._wire.retire()
            self._wire = None
        with translated():
            wire = await self._connected()
            await _asked(wire, ("PING",))
            await self._look_at_epoch(wire)  # a replica that is promoted need not close its connections

    async def close(self) -> None:
        """Ends the connection."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._wire is not None:
            self._wire.close()

    async def _connected(self) -> _Wire:
        if self._wire is not None and self._wire.open:
            return self._wire
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_heard)
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Wire:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            wire = await self._dial()
            try:
                for command in self._greeting():
                    await wire.ask(command)
                await self._look_at_epoch(wire)
            except BaseException:
                wire.close()
                raise
        self._wire = wire
        return wire

    async def _look_at_epoch(self, wire: _Wire) -> None:
        wire.epoch = await _epoch(wire)
        self._epoch_known(wire.epoch != NO_EPOCH)

    async def _dial(self) -> _Wire:
        loop, address = asyncio.get_running_loop(), self._address
        if isinstance(address, UnixDomainSocketConnection):
            return (await loop.create_unix_connection(_Wire, address.path))[1]
        tls = address.ssl_context.get() if isinstance(address, SSLConnection) else None
        return (await loop.create_connection(_Wire, address.host, address.port, ssl=tls))[1]

    def _greeting(self) -> list[tuple[Any, ...]]:
        address = self._address
        commands: list[tuple[Any, ...]] = []
        if address.username or address.password:
            who = (address.username,) if address.username else ()
            commands.append(("AUTH", *who, address.password or ""))
        if address.db:
            commands.append(("SELECT", address.db))
        return commands


async def _asked(wire: _Wire, command: tuple[Any, ...]) -> Any:
    try:
        return await wire.ask(command)
    except asyncio.CancelledError:
        wire.doubtful = True
        raise


async def _epoch(wire: _Wire) -> str:
    """Of the server and of the history of its data: the same server is another once it has followed somebody else."""
    try:
        server = _SERVER.search(await _asked(wire, ("INFO", "server")))
        history = _HISTORY.search(await _asked(wire, ("INFO", "replication")))
    except redis.ResponseError:  # a user that may not ask: a memory that was lost is then seen where it is empty
        return NO_EPOCH
    if server is None or history is None:
        return NO_EPOCH
    return hashlib.sha256(server[1] + history[1]).hexdigest()[:12]


def _heard(opening: asyncio.Task[_Wire]) -> None:
    """Everybody who waited for this connection may have left; its failure is then nobody's."""
    if not opening.cancelled():
        opening.exception()


@asynccontextmanager
async def linked(url: str, *, epoch_known: Callable[[bool], None] = lambda _: None) -> AsyncIterator[Link]:
    """A Link to the Redis at `url`, closed at the end. It connects when it is needed."""
    link = Link(url, epoch_known=epoch_known)
    try:
        yield link
    finally:
        await link.close()
