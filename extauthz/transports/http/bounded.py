"""A connection whose requests must come in time and in bounds: the base of those of every listener.

aiohttp itself limits only how long a connection may be idle, and the size of a line.
"""

import asyncio
from asyncio import AbstractEventLoop
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

HEAD_SECONDS = 10.0  # from the first byte of a request's head to its last
HEAD_BYTES_MAX = 1_048_576  # of a whole head; as much as the proxies take that take most, Caddy and Traefik
HEADER_LINES_MAX = 1024  # aiohttp's own 128 are fewer than a client may send through most proxies

_END = b"\r\n\r\n"
_BUSY_PART = 0.1  # of the limit, after which a connection is looked at again that has an earlier request to answer


class BoundedConnection(web.RequestHandler):
    """Ends where a head is not whole in time, however its bytes are dripped, and refuses one that is too large."""

    __slots__ = ("_body", "_head_bytes", "_head_seconds", "_head_timer")

    def __init__(
        self, manager: web.Server, loop: AbstractEventLoop, *, head_seconds: float = HEAD_SECONDS, **options: Any
    ) -> None:
        """`options` are those of aiohttp's connection."""
        super().__init__(manager, loop=loop, max_headers=HEADER_LINES_MAX, **options)
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body: StreamReader = EMPTY_PAYLOAD  # of the last request that has come

    def data_received(self, data: bytes) -> None:
        """Bytes have come: of a head, of a body, or of what is behind them."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._drop_head()
            if self._messages:
                self._body = self._messages[-1][1]
            # What stands behind the head of a request without a body begins the next one.
            if data and self._body is EMPTY_PAYLOAD and not data.endswith(_END):
                self._await_head(self._head_seconds)
        elif data and self._body.is_eof():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse_head()
            elif self._head_timer is None:
                self._await_head(self._head_seconds)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing more will come."""
        self._drop_head()
        super().connection_lost(exc)

    def refusal(self, status: int) -> web.StreamResponse:
        """The answer of this listener where aiohttp would make one: `status` is below 500 for a parser's refusal.

        It ends the connection, and nothing of the request is echoed.
        """
        raise NotImplementedError

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the base class calls it so
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the client
    ) -> web.StreamResponse:
        """Answers a parser's refusal; anything else is a bug, logged with its traceback."""
        if status >= 500:
            structlog.get_logger().error("unhandled_exception", exc_info=exc or True)  # aiohttp keeps back a timeout
        return self.refusal(status)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Logs nothing: a broken body is the client's error, and its bytes could be a credential."""

    def _await_head(self, seconds: float) -> None:
        self._head_timer = self._loop.call_later(seconds, self._end_late_head)

    def _drop_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_late_head(self) -> None:
        self._head_timer = None
        if self._waiter is None or self._waiter.done():  # an earlier request is to be answered first
            self._await_head(self._head_seconds * _BUSY_PART)
        else:
            self.force_close()

    def _refuse_head(self) -> None:
        """Answers as to what the parser refuses, and parses nothing more: the answer ends the connection."""
        self._drop_head()
        self._close = True
        refusal = _ErrInfo(status=400, exc=BadHttpMessage("too large"), message="")
        self._messages.append((refusal, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
