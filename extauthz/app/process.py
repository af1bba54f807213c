"""One serving process: from bound sockets until it is told to stop, and the quiet end that loses no request."""

import asyncio
import gc
import resource
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from socket import socket
from typing import Any

import structlog

from extauthz.app import wiring
from extauthz.app.directories import directory
from extauthz.app.signals import StopSignals
from extauthz.config import Settings
from extauthz.core.errors import StoreUnavailable
from extauthz.transports.http.listen import address_of

SCHEMA_TIMEOUT_SECONDS = 1.0  # for which a start waits for PostgreSQL
GC_THRESHOLDS = (20_000, 20, 50)  # objects, and generations of them; 700, 10, 10 by default


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs what serves to its end, on uvloop where that is installed (the extra `fast`)."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - it is an extra
    except ImportError:
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


def settle() -> None:
    """What a process has after its start stays: the garbage collector is told not to look at it again and again.

    A check leaves next to no cycles behind, so it is asked more seldom than by default, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def allow_connections() -> None:
    """Lets this process and its workers have as many open files as the system permits: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def check_schema(settings: Settings) -> None:
    """Raises SchemaUnknown, or LookupUnfit, where PostgreSQL answers and has not what this code asks for."""
    dsn = settings.database_url.get_secret_value()
    # Where it does not answer, or not soon, it may come later; until then the service is not ready.
    with suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(SCHEMA_TIMEOUT_SECONDS):
            await directory(settings).check(dsn)


async def serve(settings: Settings, sockets: Mapping[str, socket], *, patience: float = 0.0) -> None:
    """Answers checks, and operators where their listener is among `sockets`, until a signal asks for the end.

    `patience` as for wiring.running.
    """
    stop = StopSignals()
    log = structlog.get_logger()
    async with wiring.running(settings, sockets, patience=patience, settle=settle) as service:
        drain = 0 if stop.asked.is_set() else settings.drain_seconds  # what has not answered yet need not drain
        log.info("listening", **addresses(sockets), **service.health.readiness().stores)
        await stop.asked.wait()
        log.info("draining", seconds=drain)
        service.drain()
        await stop.pause(drain)
    log.info("stopped")


def addresses(sockets: Mapping[str, socket]) -> dict[str, str]:
    """Where each listener is, as a person writes it."""
    return {name: address_of(sock) for name, sock in sockets.items()}
