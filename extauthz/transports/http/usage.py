"""The usage listener: through the proxy, callers ask with their own key for what is left of their limits.

It is asked seldom, so every connection ends with its answer: nothing that follows a request can be another one.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from socket import socket
from time import monotonic, time

from aiohttp import web

from extauthz.core import headers
from extauthz.core.decision import Deny
from extauthz.core.request import Question, RequestBuilder
from extauthz.service.check.limit_status import LimitStatusReader
from extauthz.transports.http import render
from extauthz.transports.http.accept import LAST_CALL, Acceptor
from extauthz.transports.http.bounded import HEAD_SECONDS, BoundedConnection
from extauthz.transports.http.connection import HEADER_BYTES_MAX, LINGER
from extauthz.transports.http.dialect import Answer, Headers, Wording
from extauthz.transports.http.handler import as_response

PATH = "/usage"
METHODS = ("GET", "HEAD")

_ALWAYS = [(headers.CACHE_CONTROL, "no-store"), (headers.SERVER, "extauthz")]


class UsageHandler:
    """Bytes to a question for one's own limits, and the answer to bytes."""

    def __init__(self, limit_status: LimitStatusReader, *, deadline: float) -> None:
        """`deadline` is the seconds in which it must be known whose key it is."""
        self._limit_status = limit_status
        self._requests = RequestBuilder("usage", deadline=deadline)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request. The clock is read once, here."""
        return as_response(await self._answer(request), last=True)

    async def _answer(self, request: web.BaseRequest) -> Answer:
        if request.raw_path.partition("?")[0] != PATH:
            return _refusal(HTTPStatus.NOT_FOUND)
        if request.method not in METHODS:
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, [("allow", ", ".join(METHODS))])
        started = monotonic()
        authorization = tuple(request.headers.getall(headers.AUTHORIZATION, ()))
        shown = await self._limit_status.show(
            self._requests.build(
                Question(request.method, PATH, "", authorization, request_id="", client_address=""),
                now=time(),
                started=started,
            )
        )
        if isinstance(shown, Deny):
            return render.deny(shown, Wording())
        body = json.dumps(shown.to_json(), separators=(",", ":")).encode()
        return Answer(200, [*_ALWAYS, (headers.CONTENT_TYPE, "application/json")], body)


class _Connection(BoundedConnection):
    """One connection of a proxy. Only what aiohttp would say on its own in an error is replaced."""

    __slots__ = ()

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop, *, head_seconds: float) -> None:
        super().__init__(
            manager,
            loop,
            head_seconds=head_seconds,
            access_log=None,
            keepalive_timeout=head_seconds,
            lingering_time=LINGER,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            logger=logging.getLogger("extauthz.http"),
        )

    def refusal(self, status: int) -> web.StreamResponse:
        """A problem of that status."""
        return as_response(_refusal(HTTPStatus(status)), last=True)


@asynccontextmanager
async def serve_usage(
    limit_status: LimitStatusReader, sock: socket, *, deadline: float, head_seconds: float = HEAD_SECONDS
) -> AsyncIterator[None]:
    """Answers callers on a bound socket until left; `deadline` as for UsageHandler, `head_seconds` to ask in."""
    manager, loop = web.Server(UsageHandler(limit_status, deadline=deadline).answer), asyncio.get_running_loop()
    acceptor = Acceptor(lambda: _Connection(manager, loop, head_seconds=head_seconds), sock)
    await acceptor.open()
    try:
        yield
    finally:
        await acceptor.close()
        await asyncio.sleep(LAST_CALL)
        manager.pre_shutdown()
        await manager.shutdown(1.0)


def _refusal(status: HTTPStatus, more: Headers | None = None) -> Answer:
    """The answer to any other request: a problem of its status (RFC 9457), which repeats nothing."""
    fields = {"type": "about:blank", "title": status.phrase, "status": status.value, "code": status.name.lower()}
    body = json.dumps(fields, separators=(",", ":")).encode()
    return Answer(status.value, [*_ALWAYS, *(more or []), (headers.CONTENT_TYPE, render.PROBLEM_JSON)], body)
