"""How long one waits for `--help`, and for `serve` to be ready, beside what their imports cost."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks.runs import Rows
from benchmarks.stage import Stage
from tests.servers.process import EXTAUTHZ, listening, settings

TYPER, HELP = "import typer", "extauthz --help"
IMPORTS, READY = "imports of serve", "extauthz serve, ready"
TIMES = 5
# Without the end of the interpreter, which `ready` does not wait for either.
_IMPORTS = (
    "import extauthz.cli.main, extauthz.cli.serve, extauthz.app.process, extauthz.telemetry.logs, os; os._exit(0)"
)


async def start(at: Stage) -> Rows:
    """Milliseconds of each, in turn; the first of all, which compiles and reads from the disk, is left out."""
    environ = settings(at.at.postgres.dsn, at.at.redis.redis_url)

    async def ready() -> None:
        async with listening(environ) as service:
            await service.until(lambda report: report["status"] == "ready")
            times[READY].append((time.perf_counter() - began) * 1000)

    ways: dict[str, Callable[[], Awaitable[None]]] = {
        TYPER: lambda: _run(sys.executable, "-c", "import typer"),
        HELP: lambda: _run(*EXTAUTHZ, "--help"),
        IMPORTS: lambda: _run(sys.executable, "-c", _IMPORTS),
        READY: ready,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + TIMES):
        for name, way in ways.items():
            began = time.perf_counter()
            await way()
            if name != READY:  # whose end is not waited for
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: {"ms": some[1:]} for name, some in times.items()}


async def _run(*argv: str) -> None:
    program = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL)
    assert await program.wait() == 0
