"""`extauthz demo` as a process of its own, and a check that nothing of it is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.servers.forking import family


class Demo:
    """A running `extauthz demo` that keeps its temporary files in `folder`; `output` is what it has printed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.output = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "extauthz", "demo", *arguments],
            cwd=folder,
            env=os.environ | {"TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # where a test has failed; its servers end with it
        self._process.communicate()

    def read_until(self, words: str) -> None:
        """Returns when the words were printed."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            if words in line:
                return
        raise AssertionError(f"it ended without {words!r}:\n{self.output}")

    def members(self) -> set[tuple[int, str, str]]:
        """Every process of it, as in `alive`."""
        return {member for pid in family(self._process.pid) for member in alive(pid)}

    def interrupt(self) -> None:
        """What Ctrl-C in a terminal does."""
        os.killpg(self._process.pid, signal.SIGINT)

    def check_end(self, members: set[tuple[int, str, str]]) -> None:
        """It ends by itself, well, and no process and no file of it stays."""
        assert self._process.stdout is not None
        self.output += self._process.stdout.read()  # not `communicate`, which passes over what was read ahead
        self._process.wait(timeout=30)
        assert self._process.returncode == 0, self.output
        assert {member for pid, *_ in members for member in alive(pid)} & members == set()
        assert [name for name in map(working_folder, all_processes()) if name.startswith(str(self.folder))] == []
        assert list(self.folder.iterdir()) == []


def all_processes() -> list[int]:
    """The numbers of all processes there are."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def working_folder(pid: int) -> str:
    """The working folder of a process, even if it was deleted; empty where it cannot be read."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def alive(pid: int) -> set[tuple[int, str, str]]:
    """The process with its name and the moment of its start; nothing where it has ended."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return set()
    fields = rest.split()
    return set() if fields[0] in "ZX" else {(pid, name, fields[19])}
