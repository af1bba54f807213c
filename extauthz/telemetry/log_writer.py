"""Writes lines to a descriptor from a thread of its own, so that a reader that stops never stops the event loop."""

import io
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

QUEUE_BYTES = 1 << 20  # of lines that wait for the reader; what comes on top is dropped
LINE_OVERHEAD = 64  # bytes that a line takes in memory beside its text


class LogWriter:
    """A bounded queue of lines and the daemon thread that writes them. Lines that cannot be written are counted.

    `tick` is called by the thread between two lines: it returns the seconds after which it wants to be called again.
    `lost` is told in the thread how many lines were dropped, as soon as one could be written again.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        queue_bytes: int = QUEUE_BYTES,
        tick: Callable[[], float | None] = lambda: None,
        lost: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._queue_bytes = queue_bytes
        self._tick = tick
        self._lost = lost
        self._told = 0  # of the dropped
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._ending = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Takes one line, which ends with a newline, to be written; never waits."""
        size = len(line) + LINE_OVERHEAD
        with self._changed:
            if self._waiting_bytes + size > self._queue_bytes:
                self.dropped += 1
                return
            self._lines.append(line)
            self._waiting_bytes += size
            self._changed.notify()

    def wake(self) -> None:
        """Has the thread call `tick` soon."""
        with self._changed:
            self._changed.notify()

    def finish(self, seconds: float) -> bool:
        """Ends the thread once all lines are written, or leaves it alone after so many seconds; whether it ended."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (line := self._next()) is not None:
            written = self._put(line)
            with self._changed:
                self._waiting_bytes -= len(line) + LINE_OVERHEAD
                if not written:
                    self.dropped += 1
                untold = self.dropped - self._told if written else 0
                self._told += untold
            if untold:
                self._lost(untold)

    def _next(self) -> bytes | None:
        """The line that is due; None at the end."""
        while True:
            after = self._tick()
            with self._changed:
                if not self._lines and not self._ending:
                    self._changed.wait(after)
                if self._lines:
                    return self._lines.popleft()
                if self._ending:
                    return None

    def _put(self, line: bytes) -> bool:
        """Writes a whole line, however long the reader lets it wait; False where it cannot be written at all."""
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # a program that shares the descriptor has made it so
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
            except OSError:  # the reader is gone, or the disk is full
                return False
        return True


class LineStream(io.TextIOBase):
    """What `sys.stderr` becomes, so that Python's own tracebacks and other people's prints wait for no reader."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, writer: LogWriter, *, replaced: TextIO) -> None:
        """`replaced` is kept, because its end would close the descriptor."""
        self._writer = writer
        self._replaced = replaced
        self._begun = ""

    def write(self, text: str) -> int:
        """Hands every line on as soon as it is whole."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._writer.write(f"{line}\n".encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Hands on a line that was only begun."""
        if self._begun:
            begun, self._begun = self._begun, ""
            self._writer.write(begun.encode(errors="backslashreplace"))

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Whether lines go to a terminal."""
        return self._replaced.isatty()

    def fileno(self) -> int:
        """For child processes that inherit it."""
        return self._replaced.fileno()
