"""The private listener: `/livez`, `/readyz`, `/metrics`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import socket

from aiohttp import web

from extauthz.service.health import Readiness

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reports:
    """Where the private listener gets what it says: from this process, or from several workers together."""

    readiness: Callable[[], Awaitable[Readiness]]
    metrics: Callable[[], Awaitable[bytes]]


_REPORTS = web.AppKey("reports", Reports)


@asynccontextmanager
async def serve_admin(reports: Reports, sock: socket) -> AsyncIterator[None]:
    """Answers operators on a bound socket until left."""
    app = web.Application()
    app[_REPORTS] = reports
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield
    finally:
        await runner.cleanup()


async def _livez(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def _readyz(request: web.Request) -> web.Response:
    readiness = await request.app[_REPORTS].readiness()
    return web.json_response(readiness.to_json(), status=200 if readiness.ready else 503)


async def _metrics(request: web.Request) -> web.Response:
    body = await request.app[_REPORTS].metrics()
    return web.Response(body=body, headers={"content-type": EXPOSITION})
