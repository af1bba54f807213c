"""What the demos have in common on the terminal: a folder that is gone at the end, progress, and an end in order."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.status import Status

from extauthz.demo.folders import temporary_folder

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last when the terminal is closed
WIDTH = 160  # columns where there is no terminal to ask


class Session:
    """A demo's folder, and its ways to print: results on standard output, progress on standard error."""

    def __init__(self, folder: Path, errors: Console, status: Status) -> None:
        self.folder = folder
        self._console = Console(width=None if sys.stdout.isatty() else WIDTH)
        self._errors = errors
        self._status = status
        self._began = time.monotonic()

    def told(self, what: str) -> None:
        """Says what is being done."""
        self._status.update(what)
        if not self._errors.is_terminal:
            self._errors.print(what)

    def everything_is_up(self) -> None:
        """Says how long it took."""
        self._errors.print(f"everything is up after {time.monotonic() - self._began:.1f} s")

    def done(self) -> None:
        """Ends the line of progress, before results are printed."""
        self._status.stop()

    def print(self, line: str, style: str | None = None) -> None:
        """Prints a line as it is, however long, so that it can be pasted."""
        self._console.print(line, style=style, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def session(prefix: str) -> Iterator[Session]:
    """A demo's session; Ctrl-C ends what is inside in order, and then the session, without an error."""
    errors = Console(stderr=True)
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    try:
        with temporary_folder(prefix) as folder, errors.status("starting") as status:
            yield Session(folder, errors, status)
    except KeyboardInterrupt:
        errors.print("everything is stopped")


def _interrupt(*_: object) -> None:
    """The first signal ends the demo in order; further ones must not end the order."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
