"""The command line for tests: in processes of its own, or in this one."""

import json
import os
import pty
import subprocess
import sys
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout, suppress
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest.mock import patch

from extauthz.cli.main import main

EXTAUTHZ = (sys.executable, "-m", "extauthz")


class Shell:
    """Runs commands with settings in the environment, in a folder with a space in its name."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        others = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("EXTAUTHZ_", "RATE_LIMIT_", "OTEL_", "API_KEY_", "TENANT_"))
        }
        self.environ = {**others, **settings}

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environ = {**self.environ, **settings}
        return subprocess.run(
            [*EXTAUTHZ, *arguments], env=environ, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def json(self, *arguments: str, **settings: str) -> Any:
        """What a command that succeeds prints with `--json`, which is all that it prints."""
        done = self.run(*arguments, "--json", **settings)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def refused(self, status: int, *arguments: str, **settings: str) -> str:
        """The one line of a command that fails, without the prefix `extauthz: `."""
        done = self.run(*arguments, **settings)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.startswith("extauthz: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("extauthz: ").rstrip()

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """A command that is still running."""
        return subprocess.Popen(
            [*EXTAUTHZ, *arguments],
            env={**self.environ, **settings},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_terminal(self, *arguments: str) -> str:
        """What a command that succeeds shows on a terminal of 40 columns."""
        ours, theirs = pty.openpty()
        environ = {**self.environ, "TERM": "xterm", "COLUMNS": "40"}
        environ.pop("NO_COLOR", None)
        with subprocess.Popen([*EXTAUTHZ, *arguments], env=environ, cwd=self.folder, stdout=theirs) as command:
            os.close(theirs)
            shown = b""
            with suppress(OSError):  # EIO: the terminal is closed at its other end
                while more := os.read(ours, 65_536):
                    shown += more
            os.close(ours)
        assert command.returncode == 0
        return shown.decode().replace("\r\n", "\n")


class Here(Shell):
    """The same without the second that a process takes to start."""

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        out, err = (TextIOWrapper(BytesIO(), "utf-8") for _ in range(2))
        with ExitStack() as stack:
            stack.enter_context(patch.dict(os.environ, {**self.environ, **settings}, clear=True))
            stack.enter_context(patch.object(sys, "argv", ["extauthz", *arguments]))
            stack.enter_context(chdir(self.folder))
            stack.enter_context(redirect_stdout(out))
            stack.enter_context(redirect_stderr(err))
            status = main()
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
        return subprocess.CompletedProcess(arguments, status, *texts)
