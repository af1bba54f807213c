"""Writes lines from a thread of its own, so that a reader that stops never stops the event loop."""

import io
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol, TextIO

QUEUE_BYTES = 1 << 20  # of lines that wait for the reader; what comes on top is dropped
LINE_OVERHEAD = 64  # bytes that a line takes in memory beside its text
FILE_BATCH = 1 << 16  # bytes that a file is given at once


class Sink(Protocol):
    """Where lines go. It is called in the thread of a writer, and may block."""

    @property
    def batch_bytes(self) -> int:
        """How many bytes of whole lines it takes at once; a longer line comes alone."""
        ...

    def write(self, lines: bytes) -> bool:
        """Writes whole lines; False where they are lost."""
        ...


class DescriptorSink:
    """A pipe, a terminal, or a file that was opened by another program."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # What a pipe takes at once is not mixed with what other processes write.
        self.batch_bytes = FILE_BATCH if _is_file(descriptor) else select.PIPE_BUF
        self._torn = False

    def write(self, lines: bytes) -> bool:
        """Writes however long the reader lets it wait; False where the reader is gone, or the disk is full."""
        whole = b"\n" + lines if self._torn else lines
        written = put(self._descriptor, whole)
        self._torn = 0 < written < len(whole) or (self._torn and written == 0)
        return written == len(whole)


def _is_file(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:  # it is closed, and every write will say so
        return False


def put(descriptor: int, data: bytes) -> int:
    """Writes all of it, and waits where the descriptor takes no more; how many bytes were written before it failed."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # a program that shares the descriptor has made it so
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except OSError:  # the reader is gone, or the disk is full
            break
    return len(data) - len(rest)


class LogWriter:
    """A bounded queue of lines and the daemon thread that writes them. Lines that cannot be written are counted.

    `tick` is called by the thread after each batch and each `wake`: it returns the seconds after which it wants to be
    called again.
    `lost` is told in the thread how many lines were dropped, as soon as one could be written again.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        queue_bytes: int = QUEUE_BYTES,
        gather: float = 0.0,
        tick: Callable[[], float | None] = lambda: None,
        lost: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`gather`: seconds for which the thread lets lines come together, so that it does not wake for each."""
        self.dropped = 0
        self._sink = sink
        self._queue_bytes = queue_bytes
        self._gather = gather
        self._tick = tick
        self._lost = lost
        self._told = 0  # of the dropped
        self._tick_after: float | None = None
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._ending = threading.Event()
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
        """Ends the thread once all lines are written, or leaves it alone after so many seconds; whether it ended.

        Lines that still wait then are dropped.
        """
        with self._changed:
            self._ending.set()
            self._changed.notify()
        self._thread.join(seconds)
        ended = not self._thread.is_alive()
        with self._changed:
            self.dropped += len(self._lines)
            self._waiting_bytes -= sum(map(len, self._lines)) + LINE_OVERHEAD * len(self._lines)
            self._lines.clear()
        return ended

    def _run(self) -> None:
        while batch := self._next():
            written = self._sink.write(b"".join(batch))
            with self._changed:
                self._waiting_bytes -= sum(map(len, batch)) + LINE_OVERHEAD * len(batch)
                if not written:
                    self.dropped += len(batch)
                untold = self.dropped - self._told if written else 0
                self._told += untold
            if untold:
                self._lost(untold)
            self._tick_after = self._tick()

    def _next(self) -> list[bytes]:
        """The lines that are due, as many as may be written at once; none at the end."""
        while True:
            with self._changed:
                if not self._lines and not self._ending.is_set():
                    self._changed.wait(self._tick_after)
            if self._gather and self._waiting_bytes < self._sink.batch_bytes:
                self._ending.wait(self._gather)
            with self._changed:
                if self._lines:
                    return self._batch()
                if self._ending.is_set():
                    return []
            self._tick_after = self._tick()

    def _batch(self) -> list[bytes]:
        batch = [self._lines.popleft()]
        room = self._sink.batch_bytes - len(batch[0])
        while self._lines and len(self._lines[0]) <= room:
            batch.append(self._lines.popleft())
            room -= len(batch[-1])
        return batch


class LineStream(io.TextIOBase):
    """What `sys.stderr` becomes, so that Python's own tracebacks and prints of libraries wait for no reader."""

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
