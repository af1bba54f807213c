"""One connection to Redis: commands of one turn of the loop leave together, answers come back in order."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import hiredis
from redis import exceptions as redis

from extauthz.backends.redis.errors import refusal
from extauthz.backends.redis.server_info import ServerInfo

RETIREMENT_SECONDS = 1.0  # in which a connection that was replaced may still bring its answers

_INCOMPLETE = object()
_LOST = "the connection to Redis was lost"


class Wire(asyncio.Protocol):
    """One connection. It ends at the first byte that was not asked for."""

    def __init__(self) -> None:
        self._parser = hiredis.Reader(replyError=refusal, notEnoughData=_INCOMPLETE)
        self._waiting: deque[Callable[[Any], None]] = deque()  # in the order of their commands
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        # A caller has left without an answer, and no byte has come since: the other side may be gone.
        self.doubtful = False
        self.info = ServerInfo()

    @property
    def open(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Commands can be sent from now on."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hands answers on, in the order of their commands."""
        self.doubtful = False
        try:
            self._parser.feed(data)
            while self._waiting and (answer := self._parser.gets()) is not _INCOMPLETE:
                self._waiting.popleft()(answer)
            if not self._waiting and self._parser.has_data():
                self.close()
        except hiredis.ProtocolError:
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        """Everything that was asked and not answered fails."""
        self._transport = None
        waiting, self._waiting = self._waiting, deque()
        for answered in waiting:
            answered(redis.ConnectionError(_LOST))

    def send(self, command: bytes, *answered: Callable[[Any], None]) -> None:
        """Sends packed commands now, one for each of `answered`, which is called with the answer.

        A refusal of Redis is an answer, and so is a ConnectionError where the connection is lost. `answered` is called
        once, and must not raise. The connection must be open.
        """
        self._send()  # what was asked before leaves before
        self._waiting.extend(answered)
        cast("asyncio.Transport", self._transport).write(command)

    def ask(self, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        """The answer to come of one command."""
        waiter: asyncio.Future[Any] = self._loop.create_future()
        if self._transport is None:
            waiter.set_exception(redis.ConnectionError(_LOST))
            return waiter
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(hiredis.pack_command(arguments))
        self._waiting.append(partial(_deliver, waiter))
        return waiter

    async def execute_command(self, *args: Any) -> Any:
        """The answer of one command; a caller that leaves harms no other."""
        try:
            return await self.ask(args)
        except asyncio.CancelledError:
            self.doubtful = True
            raise

    def _send(self) -> None:
        if self._unsent:
            if self._transport is not None:
                self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def leave(self) -> None:
        """Notes that an answer was not waited for: until another byte comes, the other side may be gone."""
        self.doubtful = True

    def close(self) -> None:
        """Ends the connection; callers that still wait on it are told so."""
        if self._transport is not None:
            self._transport.abort()
            self.connection_lost(None)

    def retire(self) -> None:
        """Ends the connection, now if no caller waits, else a little later."""
        if self._waiting:
            self._loop.call_later(RETIREMENT_SECONDS, self.close)
        else:
            self.close()


def _deliver(waiter: "asyncio.Future[Any]", answer: Any) -> None:
    if waiter.done():  # its caller has left; the answer was still the one to its command
        return
    if isinstance(answer, Exception):
        waiter.set_exception(answer)
    else:
        waiter.set_result(answer)
