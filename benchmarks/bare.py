"""What the service is held against: aiohttp that answers "ok" and nothing else, over `web.Application` or `web.Server`.

`floor` is without aiohttp: it writes the same answer to whatever comes, which any server on that loop does at least.

`python -m benchmarks.bare application|server|floor asyncio|uvloop` prints its port and runs until it is told to stop.
"""

import asyncio
import importlib.util
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, cast

from aiohttp import web

FORMS = ("application", "server", "floor")
SIZE = 640  # bytes of what Envoy is answered to an allowed check of the bench
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-filler: "
ANSWER = _HEAD.ljust(SIZE - 4, b".") + b"\r\n\r\n"
LOOPS = ("asyncio", "uvloop") if importlib.util.find_spec("uvloop") else ("asyncio",)


async def ok(_: web.BaseRequest) -> web.Response:
    """The whole of it."""
    return web.Response(text="ok")


class Floor(asyncio.Protocol):
    """A connection whose requests are not even read."""

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class

    def data_received(self, _: bytes) -> None:
        self._transport.write(ANSWER)


async def serve(form: str) -> None:
    """Answers on a free port until SIGTERM."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    async with AsyncExitStack() as stack:
        if form == "floor":
            server = await stack.enter_async_context(await loop.create_server(Floor, "127.0.0.1", 0))
            port = server.sockets[0].getsockname()[1]
        else:
            runner = _aiohttp(form)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
        print(port, flush=True)
        await told.wait()


def _aiohttp(form: str) -> web.BaseRunner:
    if form == "server":
        return web.ServerRunner(web.Server(ok, access_log=None))
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", ok)
    return web.AppRunner(application, access_log=None)


def runner_of(loop: str) -> Callable[[Coroutine[Any, Any, None]], None]:
    """What runs a coroutine on that loop."""
    if loop == "asyncio":
        return asyncio.run
    run: Callable[[Coroutine[Any, Any, None]], None] = importlib.import_module("uvloop").run
    return run


if __name__ == "__main__":
    runner_of(sys.argv[2])(serve(sys.argv[1]))
