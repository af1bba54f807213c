"""What the service is held against: aiohttp that answers "ok" and nothing else, over `web.Application` or `web.Server`.

`python -m tests.bench.bare application|server asyncio|uvloop` prints its port and runs until it is told to stop.
"""

import asyncio
import importlib.util
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

FORMS = ("application", "server")
LOOPS = ("asyncio", "uvloop") if importlib.util.find_spec("uvloop") else ("asyncio",)


async def ok(_: web.BaseRequest) -> web.Response:
    """The whole of it."""
    return web.Response(text="ok")


async def serve(form: str) -> None:
    """Answers on a free port until SIGTERM."""
    runner: web.BaseRunner
    if form == "application":
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", ok)
        runner = web.AppRunner(application, access_log=None)
    else:
        runner = web.ServerRunner(web.Server(ok, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await told.wait()
    await runner.cleanup()


def runner_of(loop: str) -> Callable[[Coroutine[Any, Any, None]], None]:
    """What runs a coroutine on that loop."""
    if loop == "asyncio":
        return asyncio.run
    run: Callable[[Coroutine[Any, Any, None]], None] = importlib.import_module("uvloop").run
    return run


if __name__ == "__main__":
    runner_of(sys.argv[2])(serve(sys.argv[1]))
