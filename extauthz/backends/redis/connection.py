"""The one connection that all checks of a process share: commands leave together, answers come back in order.

redis-py gives each command in flight a connection of its own, and the price of that is most of a check. Here commands
of one turn of the loop go out in one write. Nothing is ever sent a second time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis import exceptions as redis
from redis.asyncio import ConnectionPool, SSLConnection, UnixDomainSocketConnection

from extauthz.aio.tasks import cancel_until_done, ignore_error
from extauthz.backends.redis import probe, server_info
from extauthz.backends.redis.errors import translated
from extauthz.backends.redis.server_info import ServerInfo
from extauthz.backends.redis.wire import Wire

MAX_CONCURRENT_CALLS = 4096  # they share the connection; this bounds what a flood can pile up
CONNECT_TIMEOUT_SECONDS = 1.0


class RedisConnection:
    """A connection to a single Redis that opens when it is needed, and again after it was lost.

    `trials` are what a probe writes. `looked` is told, again and again, what the server says of itself.
    """

    def __init__(
        self,
        url: str,
        *,
        trials: Sequence[probe.Trial] = probe.LIMITS,
        looked: Callable[[ServerInfo], None] = lambda _: None,
    ) -> None:
        # The library reads the address, and is not asked to connect.
        self._address = ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # it has no hint
        self._trials = trials
        self._looked = looked
        self.operations = 0  # commands that were asked for
        self.clock_skew: float | None = None  # see core/clock.py
        self._wire: Wire | None = None
        self._opening: asyncio.Task[Wire] | None = None
        self._retired: list[Wire] = []  # that end a little later

    async def execute_command(self, *args: Any) -> Any:
        """The answer of one command, as Redis sent it. Never sent twice; a caller that leaves harms no other."""
        self.operations += 1
        return await (await self._connected()).execute_command(*args)

    @property
    def wire(self) -> Wire | None:
        """The connection, where it is open."""
        wire = self._wire
        return wire if wire is not None and wire.open else None

    async def connect(self) -> None:
        """Opens the connection where it is not."""
        await self._connected()

    async def epoch(self) -> str:
        """Whose memory the connection leads to; NO_EPOCH if Redis does not say.

        Another after a restart, on another server, and where a replica became the master; what became of the memory
        since this was last looked at is seen by the next `probe`.
        """
        return (await self._connected()).info.epoch

    async def probe(self) -> None:
        """Returns when Redis lets us write as checks do, on a new connection where there is doubt about the old one.

        A server that refuses loses its connection: one that was demoted keeps it open, while its address may lead to
        another server by now. Raises StoreUnavailable.
        """
        if self._wire is not None and self._wire.doubtful:
            self._leave()
        with translated():
            was_open = self._wire is not None and self._wire.open
            if was_open and await self._fit(last=False):
                return
            await self._fit(last=True)

    async def close(self) -> None:
        """Ends the connection."""
        if self._opening is not None:
            await cancel_until_done([self._opening])
        self._leave()
        for wire in self._retired:
            wire.close()

    async def _fit(self, *, last: bool) -> bool:
        """Whether the server takes writes; raises its refusal where this is the `last` try."""
        wire = await self._connected()
        try:
            _, info = await asyncio.gather(probe.write(wire, self._trials), server_info.read(wire))
            self._note(wire, info)  # a replica that is promoted need not close its connections
            if info.replica:  # it may take writes, which its master then throws away
                raise redis.ReadOnlyError("READONLY the server is a replica")
        except redis.RedisError:
            refused = wire.open
            if wire is self._wire:
                self._leave()
            if last or not refused:
                raise
            return False
        return True

    def _leave(self) -> None:
        """The next command opens another connection, and resolves its address again."""
        if self._wire is not None:
            self._wire.retire()
            self._retired = [wire for wire in (*self._retired, self._wire) if wire.open]
            self._wire = None

    async def _connected(self) -> Wire:
        if self._wire is not None and self._wire.open:
            return self._wire
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(ignore_error)  # every caller may have left by then
        return await asyncio.shield(self._opening)

    async def _open(self) -> Wire:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            wire = await self._dial()
            try:
                for command in self._greeting():
                    await wire.ask(command)
                self._note(wire, await server_info.read(wire))
            except BaseException:
                wire.close()
                raise
        self._wire = wire
        return wire

    def _note(self, wire: Wire, info: ServerInfo) -> None:
        wire.info = info
        self.clock_skew = info.clock_skew
        self._looked(info)

    async def _dial(self) -> Wire:
        loop, address = asyncio.get_running_loop(), self._address
        if isinstance(address, UnixDomainSocketConnection):
            return (await loop.create_unix_connection(Wire, address.path))[1]
        tls = address.ssl_context.get() if isinstance(address, SSLConnection) else None
        return (await loop.create_connection(Wire, address.host, address.port, ssl=tls))[1]

    def _greeting(self) -> list[tuple[Any, ...]]:
        address = self._address
        commands: list[tuple[Any, ...]] = []
        if address.username or address.password:
            who = (address.username,) if address.username else ()
            commands.append(("AUTH", *who, address.password or ""))
        if address.db:
            commands.append(("SELECT", address.db))
        return commands


@asynccontextmanager
async def open_connection(
    url: str,
    *,
    trials: Sequence[probe.Trial] = probe.LIMITS,
    looked: Callable[[ServerInfo], None] = lambda _: None,
) -> AsyncIterator[RedisConnection]:
    """A Link to the Redis at `url`, closed at the end. It connects when it is needed."""
    redis_connection = RedisConnection(url, trials=trials, looked=looked)
    try:
        yield redis_connection
    finally:
        await redis_connection.close()
