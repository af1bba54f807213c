"""The private listener: `/livez`, `/readyz`, `/metrics`, and what else is put on it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import socket

from aiohttp import hdrs, web

from extauthz.service.health import Readiness
from extauthz.transports.http.accept import Acceptor
from extauthz.transports.http.bounded import HEAD_SECONDS, BoundedConnection

BODY_MAX = 65_536  # bytes
KEEPALIVE = 75  # seconds
LINGER = 0.2  # seconds in which the rest of a refused body is thrown away before its connection closes


_ALWAYS = {hdrs.CACHE_CONTROL: "no-store", "x-content-type-options": "nosniff", hdrs.SERVER: "extauthz"}


@dataclass(frozen=True, slots=True)
class Reports:
    """Where the private listener gets what it says: from this process, or from several workers together.

    `metrics` takes what the client accepts, and returns a body and its content type.
    """

    readiness: Callable[[], Awaitable[Readiness]]
    metrics: Callable[[str], Awaitable[tuple[bytes, str]]]


_REPORTS = web.AppKey("reports", Reports)


class _Connection(BoundedConnection):
    """One operator's connection. aiohttp's own refusals quote what came in, a token perhaps; ours do not.

    Every answer, aiohttp's own too, has the headers that all answers have.
    """

    __slots__ = ()

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop, *, head_seconds: float) -> None:
        super().__init__(
            manager,
            loop,
            head_seconds=head_seconds,
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            lingering_time=LINGER,
            auto_decompress=False,
            logger=logging.getLogger("extauthz.http"),
        )

    def refusal(self, status: int) -> web.StreamResponse:
        """That status alone."""
        return _refusal(status)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """What aiohttp refuses by itself (an unknown path or Expect) says only its status, and which methods are."""
        if isinstance(resp, web.HTTPException):
            resp = _refusal(resp.status, resp.headers.get(hdrs.ALLOW))
        resp.headers.update(_ALWAYS)
        if hdrs.TRANSFER_ENCODING in request.headers:
            # aiohttp 3.14's parser hands the last trailer of a chunked request to the next request of its connection.
            resp.force_close()
        return await super().finish_response(request, resp, start_time)


def _refusal(status: int, allow: str | None = None) -> web.Response:
    response = web.Response(status=status, headers=None if allow is None else {hdrs.ALLOW: allow})
    response.force_close()
    return response


@asynccontextmanager
async def serve_admin(
    reports: Reports,
    sock: socket,
    *,
    mount: Callable[[web.Application], None] | None = None,
    head_seconds: float = HEAD_SECONDS,
) -> AsyncIterator[None]:
    """Answers operators on a bound socket until left. `mount` adds further routes, `head_seconds` are to ask in."""
    app = web.Application(client_max_size=BODY_MAX)
    app[_REPORTS] = reports
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    if mount is not None:
        mount(app)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    loop, manager = asyncio.get_running_loop(), runner.server
    if manager is None:
        raise RuntimeError("the runner was set up and has no server")
    acceptor = Acceptor(lambda: _Connection(manager, loop, head_seconds=head_seconds), sock)
    await acceptor.open()
    try:
        yield
    finally:
        await acceptor.close()
        await runner.cleanup()


async def _livez(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def _readyz(request: web.Request) -> web.Response:
    readiness = await request.app[_REPORTS].readiness()
    return web.json_response(readiness.to_json(), status=200 if readiness.ready else 503)


async def _metrics(request: web.Request) -> web.Response:
    accept = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
    body, content_type = await request.app[_REPORTS].metrics(accept)
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})
