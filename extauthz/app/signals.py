"""What signals do to a serving process: two of them end it, others are refused with a line, none is left to chance."""

import asyncio
import os
import signal
from types import FrameType

import structlog

ENDING = (signal.SIGTERM, signal.SIGINT)
# By default each of them kills, and tools for logs and configuration send them.
IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_early: list[int] = []


def hold() -> None:
    """Keeps ignored signals from killing while no event loop looks after them; the next StopSignals reports them."""
    for number in IGNORED:
        signal.signal(number, _note)


def _note(number: int, _: FrameType | None) -> None:
    _early.append(number)


class StopSignals:
    """SIGTERM and SIGINT as events: the first (`asked`) asks for a quiet end, the second (`again`) for a quick one.

    SIGHUP, SIGUSR1 and SIGUSR2 are logged and do nothing else, but for the SIGHUP of a terminal that was closed.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.again = asyncio.Event()
        self._on_terminal = _has_terminal()
        loop = asyncio.get_running_loop()
        for number in ENDING:
            loop.add_signal_handler(number, self.ask)
        for number in IGNORED:
            loop.add_signal_handler(number, self._ignore, number)
        for early in _early:
            self._ignore(early)
        _early.clear()

    def ask(self) -> None:
        """What a signal does."""
        (self.again if self.asked.is_set() else self.asked).set()

    def hurry(self) -> None:
        """What two signals do."""
        self.asked.set()
        self.again.set()

    async def pause(self, seconds: float) -> None:
        """Waits so long, or until a second signal."""
        try:
            async with asyncio.timeout(seconds):
                await self.again.wait()
        except TimeoutError:
            return

    def _ignore(self, number: int) -> None:
        if number == signal.SIGHUP and self._on_terminal and not _has_terminal():
            self.ask()
            return
        structlog.get_logger().warning("signal_ignored", signal=signal.Signals(number).name)


def _has_terminal() -> bool:
    """Whether the process belongs to a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
