"""One connection of a proxy: aiohttp's, with a short way for what most requests are.

A request without a body on an idle connection that lives on needs no task, request and response of aiohttp's: its check
begins in the call that brings its bytes, and if it waits, then for one future. Everything else goes aiohttp's way, and
both say the same. docs/adr/0011-a-short-way-for-plain-requests.md says what is taken from aiohttp for that.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from extauthz.transports.http.bounded import HEAD_SECONDS, BoundedConnection
from extauthz.transports.http.dialect import Answer
from extauthz.transports.http.handler import FAILED, CheckHandler, announces_more, as_bytes, as_response

HEADER_BYTES_MAX = 65_536  # Envoy passes up to 60 KiB
KEEPALIVE = 75  # seconds; longer than the proxies keep an idle connection to us
LINGER = 0.2  # seconds in which an announced body is thrown away before its connection closes

_OPTIONS: dict[str, Any] = {
    "access_log": None,
    "keepalive_timeout": KEEPALIVE,
    "lingering_time": LINGER,
    "max_line_size": HEADER_BYTES_MAX,
    "max_field_size": HEADER_BYTES_MAX,
    "logger": logging.getLogger("extauthz.http"),
}


class CheckConnection(BoundedConnection):
    """Answers one request after the other. `short_way` off: all of them aiohttp's way."""

    __slots__ = ("_check", "_handler", "_lent", "_method", "_short_way")

    def __init__(
        self,
        manager: web.Server,
        handler: CheckHandler,
        loop: asyncio.AbstractEventLoop,
        *,
        short_way: bool,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        super().__init__(manager, loop, head_seconds=head_seconds, **_OPTIONS)
        self._handler = handler
        self._method = ""
        self._short_way = short_way
        self._check: Coroutine[Any, Any, Answer] | None = None
        # What aiohttp's own task of this connection waits for, while a check of ours is under way: it must not wake.
        self._lent: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes have come: parsed by aiohttp, and answered the short way where that will do."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self._messages or not self._short_way or self._paused:
            super().data_received(data)
            return
        self._waiter = None
        try:
            super().data_received(data)
        finally:  # whatever happens, it is there to be cancelled
            self._waiter = waiter
        if self._messages and not waiter.done() and not (len(self._messages) == 1 and self._begin(waiter)):
            waiter.set_result(None)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the base class calls it so
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the client
    ) -> web.StreamResponse:
        """A parser's refusal is a decision like any other; anything else is a bug of ours, told whole to the log."""
        if status < 500:
            return self._handler.refuse()
        structlog.get_logger().error("bug", exc_info=exc or True)  # aiohttp keeps a timeout to itself
        return as_response(FAILED, last=True)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A body that breaks off or makes no sense is the client's affair; its bytes are not for our log."""

    def _begin(self, waiter: "asyncio.Future[None]") -> bool:
        """Begins the only request that has come, if it is a plain one."""
        message, payload = self._messages[0]
        parser = self._parser
        if (
            parser is None
            or payload is not EMPTY_PAYLOAD
            or not isinstance(message, RawRequestMessage)
            or not _is_plain(message)
            or self._handler.draining
        ):
            return False
        self._messages.clear()
        parser.message_consumed()
        self._waiter, self._lent = None, waiter
        self._method = message.method
        self._check = self._handler.judge(message.method, message.path, message.headers)
        self._go_on()
        return True

    def _go_on(self, _: object = None) -> None:
        """Runs the check until it waits for something, or to its end."""
        check = self._check
        if check is None:
            return
        try:
            awaited = check.send(None)
        except StopIteration as over:
            answer = over.value
        except (Exception, asyncio.CancelledError) as bug:  # noqa: BLE001 - told, whatever it is
            structlog.get_logger().error("bug", exc_info=bug)
            answer = FAILED
        else:
            if awaited is None:  # a bare turn of the loop
                self._loop.call_soon(self._go_on)
            else:
                awaited._asyncio_future_blocking = False  # as a task does it: it has been waited for properly
                awaited.add_done_callback(self._go_on)
            return
        self._check = None
        self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        """Writes the answer, and gives the connection back to aiohttp's task."""
        waiter, self._waiter, self._lent = self._lent, self._lent, None
        if waiter is None:
            return
        transport = self.transport
        if transport is None:  # who asked has gone
            waiter.cancel()
            return
        last = answer is FAILED or self._close or self._force_close or self._handler.draining
        transport.write(as_bytes(answer, self._method, last=last))
        if last:
            transport.close()
            waiter.cancel()
            return
        self._next_keepalive_close_time = self._loop.time() + KEEPALIVE
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        if self._messages:
            waiter.set_result(None)


def _is_plain(message: RawRequestMessage) -> bool:
    """Whether it is a whole request after which another one may come, and nothing but that."""
    return (
        not message.should_close
        and message.version == HttpVersion11
        and hdrs.EXPECT not in message.headers
        and not announces_more(message.method, message.headers)
    )
