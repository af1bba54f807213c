"""Check listeners: aiohttp's HTTP server with our own handler, our own refusals and no echo of what a client sent."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from time import monotonic, time
from typing import Any

import structlog
from aiohttp import hdrs, web

from extauthz.core.request import CheckRequest
from extauthz.service.check import CheckService
from extauthz.service.health import Health
from extauthz.transports.http.dialect import Answer, Dialect

HEADER_BYTES_MAX = 65_536  # Envoy passes up to 60 KiB
KEEPALIVE = 75  # seconds; longer than the proxies keep an idle connection to us
LINGER = 0.2  # seconds in which an announced body is thrown away before its connection closes
BACKLOG = 1024
LAST_CALL = 0.2  # seconds for the request of a connection that was made just before we stopped listening

_OPTIONS: dict[str, Any] = {
    "access_log": None,
    "keepalive_timeout": KEEPALIVE,
    "lingering_time": LINGER,
    "max_line_size": HEADER_BYTES_MAX,
    "max_field_size": HEADER_BYTES_MAX,
    "logger": logging.getLogger("extauthz.http"),
}


class CheckHandler:
    """Bytes to CheckRequest, Decision to bytes, for one dialect."""

    def __init__(self, service: CheckService, dialect: Dialect, *, deadline: float, health: Health) -> None:
        """`deadline` is the seconds that one check may take. While `health` drains, answers end their connection."""
        self._service = service
        self._dialect = dialect
        self._deadline = deadline
        self._health = health

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request: every path and method is a check. The clock is read once, here."""
        started = monotonic()
        question = self._dialect.read(request.method, request.raw_path, request.headers)
        if question is None:
            decision = self._service.refuse_proxy_request(self._dialect.name, started)
        else:
            patience = self._deadline
            if question.time_left is not None:
                patience = min(patience, question.time_left)
            check = CheckRequest(
                dialect=self._dialect.name,
                method=question.method,
                path=question.path,
                host=question.host,
                authorization=question.authorization,
                request_id=question.request_id,
                client_address=question.client_address,
                now=time(),
                started=started,
                deadline=started + patience,
            )
            decision = await self._service.check(check)
        response = _response(self._dialect.render(decision))
        if self._health.draining or _announces_more(request):
            response.force_close()
        return response

    def refuse(self) -> web.Response:
        """The answer to bytes that are no HTTP request: nothing of them is echoed, and the connection ends."""
        decision = self._service.refuse_proxy_request(self._dialect.name, monotonic())
        answer = self._dialect.render(decision)
        response = _response(Answer(answer.status, [pair for pair in answer.headers if pair[0] != "content-type"]))
        response.force_close()
        return response


class _Connection(web.RequestHandler):
    """One connection of a proxy. Only what aiohttp would say on its own in an error is replaced."""

    __slots__ = ("_check_handler",)

    def __init__(self, manager: web.Server, handler: CheckHandler, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(manager, loop=loop, **_OPTIONS)
        self._check_handler = handler

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the base class calls it so
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the client
    ) -> web.StreamResponse:
        """A parser's refusal is a decision like any other; anything else is a bug of ours, told whole to the log."""
        if status < 500:
            return self._check_handler.refuse()
        structlog.get_logger().error("bug", exc_info=exc)
        response = web.Response(status=500)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A body that breaks off or makes no sense is the client's affair; its bytes are not for our log."""


@asynccontextmanager
async def serve_checks(handlers: Mapping[socket.socket, CheckHandler]) -> AsyncIterator[None]:
    """Answers checks on listening sockets until left; who has connected by then is still heard, and answered."""
    listeners = [_Listener(sock, handler) for sock, handler in handlers.items()]
    for listener in listeners:
        await listener.open()
    try:
        yield
    finally:
        await asyncio.gather(*(listener.close() for listener in listeners))


class _Listener:
    """One socket and the connections that came in by it."""

    def __init__(self, sock: socket.socket, handler: CheckHandler) -> None:
        self._sock = sock
        self._manager = manager = web.Server(handler.answer)
        self._loop = loop = asyncio.get_running_loop()
        self._connection = lambda: _Connection(manager, handler, loop)

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


def _response(answer: Answer) -> web.Response:
    # Left to itself, aiohttp forgets the length of an empty answer to HEAD.
    length = (hdrs.CONTENT_LENGTH, str(len(answer.body)))
    return web.Response(status=answer.status, headers=[*answer.headers, length], body=answer.body)


def _announces_more(request: web.BaseRequest) -> bool:
    """Whether bytes may follow that are no request of their own: a body, or another protocol."""
    received = request.headers
    return (
        received.get(hdrs.CONTENT_LENGTH, "0") != "0"
        or hdrs.TRANSFER_ENCODING in received
        or hdrs.UPGRADE in received
        or request.method == "CONNECT"
    )
