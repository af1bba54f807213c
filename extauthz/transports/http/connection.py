"""One connection of a proxy: aiohttp's, with a fast path for what most requests are.

A plain request on an idle connection that lives on needs nothing of aiohttp's: its check begins in the call that brings
its bytes, and its answer is written in the call that brings the last thing it waits for. Everything else goes aiohttp's
way, and both say the same. docs/adr/0011-a-fast-path-for-plain-requests.md says
what is taken from aiohttp for that.
"""

import asyncio
import logging
from email.utils import formatdate
from functools import lru_cache
from time import time
from typing import Any

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD

from extauthz.core.trace import Trace
from extauthz.transports.http.bounded import HEAD_SECONDS, BoundedConnection
from extauthz.transports.http.fast_check import FastCheck
from extauthz.transports.http.fast_path import FastPath
from extauthz.transports.http.handler import FAILED, CheckHandler, as_response

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


_LAST, _END = b"Connection: close\r\n\r\n", b"\r\n"
_END_OF_HEAD = b"\r\n\r\n"


@lru_cache(maxsize=4)
def _date(now: int) -> bytes:
    """RFC 9110 §6.6.1; the same for all answers of a second."""
    return f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii")


class CheckConnection(BoundedConnection):
    """Answers one request after the other. `fast_path` None: all of them aiohttp's way."""

    __slots__ = ("_check", "_clean", "_handler", "_lent", "_trace")

    def __init__(
        self,
        manager: web.Server,
        handler: CheckHandler,
        loop: asyncio.AbstractEventLoop,
        *,
        fast_path: FastPath | None,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        super().__init__(manager, loop, head_seconds=head_seconds, **_OPTIONS)
        self._handler = handler
        self._check = None if fast_path is None else FastCheck(fast_path, self)
        self._clean = True  # the parser has read whole requests without a body, and nothing behind them
        # What aiohttp's own task of this connection waits for, while a check is under way here: it must not wake.
        self._lent: asyncio.Future[None] | None = None
        self._trace: Trace | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes have come: a plain request alone on an idle connection, or something for aiohttp."""
        check, waiter = self._check, self._waiter
        if (
            check is None
            or waiter is None
            or not self._clean
            or waiter.done()
            or self._messages
            or self._paused
            or self._close
            or self._force_close
            or self._handler.health.draining
        ):
            self._leave_to_aiohttp(data)
            return
        self._waiter, self._lent = None, waiter
        try:
            begun = check.begin(data)
        except Exception as bug:  # noqa: BLE001 - told, whatever it is
            check.stop(bug)
            return
        if not begun:
            self._waiter, self._lent = waiter, None
            self._leave_to_aiohttp(data)

    def finish(self, head: bytes, body: bytes, *, last: bool = False) -> None:
        """Writes the answer to a plain request, and gives the connection back to aiohttp's task."""
        waiter, self._waiter, self._lent = self._lent, self._lent, None
        if waiter is None:
            return
        transport = self.transport
        if transport is None:  # the client has gone
            waiter.cancel()
            return
        if last or self._close or self._force_close or self._handler.health.draining:
            transport.write(b"".join((head, _date(int(time())), _LAST, body)))
            transport.close()
            waiter.cancel()
            return
        transport.write(b"".join((head, _date(int(time())), _END, body)))
        self._next_keepalive_close_time = self._loop.time() + KEEPALIVE
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        if self._messages:
            waiter.set_result(None)

    def hold_trace(self, trace: Trace) -> None:
        """Keeps the trace of a request that is left to aiohttp."""
        self._trace = trace

    def take_trace(self) -> Trace | None:
        """The trace of the request that was left to aiohttp, once."""
        trace, self._trace = self._trace, None
        return trace

    def _leave_to_aiohttp(self, data: bytes) -> None:
        requests = self._request_count
        super().data_received(data)
        if self._request_count != requests:
            self._clean = self._body is EMPTY_PAYLOAD and not self._upgraded and data.endswith(_END_OF_HEAD)
        elif data:
            self._clean = False

    def refusal(self, status: int) -> web.StreamResponse:
        """A parser's refusal is a decision like any other."""
        return self._handler.refuse() if status < 500 else as_response(FAILED, last=True)
