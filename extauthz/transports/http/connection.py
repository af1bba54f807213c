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

from extauthz.core.decision import Decision
from extauthz.transports.http.handler import CheckHandler

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


class CheckConnection(web.RequestHandler):
    """Answers one request after the other. `short_way` off: all of them aiohttp's way."""

    __slots__ = ("_check", "_handler", "_lent", "_method", "_short_way")

    def __init__(
        self, manager: web.Server, handler: CheckHandler, loop: asyncio.AbstractEventLoop, *, short_way: bool
    ) -> None:
        super().__init__(manager, loop=loop, **_OPTIONS)
        self._handler = handler
        self._method = ""
        self._short_way = short_way
        self._check: Coroutine[Any, Any, Decision] | None = None
        # What aiohttp's own task of this connection waits for, while a check of ours is under way: it must not wake.
        self._lent: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes have come: parsed by aiohttp, and answered the short way where that will do."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self._messages or not self._short_way or self._paused:
            super().data_received(data)
            return
        self._waiter = None
        super().data_received(data)
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
        structlog.get_logger().error("bug", exc_info=exc)
        response = web.Response(status=500)
        response.force_close()
        return response

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
        self._request_in_progress = True
        self._method = message.method
        self._check = self._handler.decide(message.method, message.path, message.headers)
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
            self._check = None
            self._finish(over.value)
        except BaseException as bug:
            self._check = None
            structlog.get_logger().error("bug", exc_info=bug)
            self._finish(None)
            if not isinstance(bug, Exception):
                raise
        else:
            if awaited is None:  # a bare turn of the loop
                self._loop.call_soon(self._go_on)
            else:
                awaited._asyncio_future_blocking = False  # as a task does it: it has been waited for properly
                awaited.add_done_callback(self._go_on)

    def _finish(self, decision: Decision | None) -> None:
        """Writes the answer, and gives the connection back to aiohttp's task. None: a bug, of which nothing is said."""
        waiter, self._waiter, self._lent = self._lent, self._lent, None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if waiter is None:
            return
        transport = self.transport
        if transport is None:  # who asked has gone
            waiter.cancel()
            return
        last = decision is None or self._close or self._force_close or self._handler.draining
        if decision is not None:
            transport.write(self._handler.wire(decision, self._method, last=last))
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
    received = message.headers
    return (
        not message.should_close
        and message.version == HttpVersion11
        and received.get(hdrs.CONTENT_LENGTH, "0") == "0"
        and hdrs.UPGRADE not in received
        and hdrs.EXPECT not in received
        and message.method != hdrs.METH_CONNECT
    )
