"""A file that lines are appended to, by several processes at once, and that others may rename, remove or cut off."""

import fcntl
import os
import stat
from contextlib import suppress

from extauthz.telemetry.log_writer import FILE_BATCH, put

MODE = 0o640


class FileSink:
    """Appends to the file that has the path now: after a rotation that is a new one, which is made if it is not there.

    Every process holds a lock on the file while it writes, so that all lines are whole, on a disk that is full too.
    """

    batch_bytes = FILE_BATCH

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None  # of the open file: its device and inode

    def write(self, lines: bytes) -> bool:
        """Appends whole lines; False where the file cannot be opened, or takes no more."""
        try:
            self._follow()
            return self._append(lines)
        except OSError:
            return False

    def _follow(self) -> None:
        """Opens what has the path now, unless that is open already."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - called for every batch
        except OSError:
            found = None
        if found is not None and (found.st_dev, found.st_ino) == self._identity:
            return
        self._close()
        # A pipe that has no reader is not waited for.
        flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        readable = found is None or (stat.S_ISREG(found.st_mode) and os.access(self._path, os.R_OK))
        self._descriptor = os.open(self._path, flags | (os.O_RDWR if readable else os.O_WRONLY), MODE)
        opened = os.fstat(self._descriptor)
        self._identity = (opened.st_dev, opened.st_ino)

    def _append(self, lines: bytes) -> bool:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            whole = b"\n" + lines if self._is_torn() else lines
            written = put(self._descriptor, whole)
            if 0 < written < len(whole):
                self._take_back(written)
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return written == len(whole)

    def _is_torn(self) -> bool:
        """Whether the file ends with half a line, of a process or machine that was ended while it wrote."""
        size = os.fstat(self._descriptor).st_size
        try:
            return size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        except OSError:  # what can only be written to
            return False

    def _take_back(self, size: int) -> None:
        """Cuts off what was written last, so that a full disk keeps no half line; the lock keeps others out."""
        state = os.fstat(self._descriptor)
        if stat.S_ISREG(state.st_mode):
            os.ftruncate(self._descriptor, state.st_size - size)

    def _close(self) -> None:
        if self._identity is not None:
            self._identity = None
            with suppress(OSError):  # a late error of the disk must not keep the next file from being written
                os.close(self._descriptor)
