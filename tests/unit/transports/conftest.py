"""Both event loops that the service runs on."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], AbstractEventLoop]]:
    """What holds on one of them holds on the other."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
