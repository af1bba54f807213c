"""`python -m extauthz` by a fork of a process that has imported it, because imports cost a second of each start.

What such a process starts itself, the workers of a service or the service of a demo, is forked in the same way.
Processes that are started otherwise, with other interpreter options, or with another encoding, begin as usual.
`TEST_FORKS=off make test` starts every process as usual.
"""

import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from extauthz.demo import process

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36  # prctl(2)
SERVER_NAME = "fork server"  # as the kernel tells it
INTERPRETER = ("PYTHON", "LC_", "LANG")  # what an interpreter reads before it runs anything
NEUTRAL = {"LC_ALL": "C"}  # with which it takes UTF-8, as with any locale of today


class Command(NamedTuple):
    """What an interpreter is asked to run: a module, and its arguments; `safe`: without the current folder."""

    module: str
    arguments: list[str]
    safe: bool

    @classmethod
    def of(cls, args: Sequence[str]) -> "Command | None":
        """What `python -m extauthz…` runs; None where it is not that."""
        options = args[1:].index("-m") + 1 if "-m" in args[1:] else 0
        if args[0] != sys.executable or not options or args[1:options] not in ([], ["-P"]):
            return None
        module, *arguments = args[options + 1 :]
        ours = module.partition(".")[0] == "extauthz" and not any("\0" in argument for argument in arguments)
        return cls(module, arguments, options > 1) if ours else None


class ForkServer:
    """The process that has imported extauthz, at the other end of `channel`; None: it starts with the first request."""

    def __init__(self, channel: socket.socket | None = None) -> None:
        self._lock = threading.Lock()
        self._channel = channel

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Returns the number of a new child of this process, which has these descriptors."""
        with self._lock:
            channel = self._channel = self._channel or self._start()
            # The child's parent ends at once, so that this process adopts the child: only a parent can wait for it.
            control(PR_SET_CHILD_SUBREAPER, 1)
            try:
                socket.send_fds(channel, [json.dumps(request).encode()], descriptors)
                return int(channel.recv(32))
            finally:
                control(PR_SET_CHILD_SUBREAPER, 0)

    @staticmethod
    def _start() -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            server = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        atexit.register(server.wait)
        atexit.register(ours.close)
        return ours


class ForkingPopen(subprocess.Popen[Any]):
    """A Popen that has `python -m extauthz` forked by the server."""

    server = ForkServer()

    def _execute_child(self, args: Any, *rest: Any) -> None:
        """Overrides the step of Popen that makes the process: its parameters are those of CPython 3.11 to 3.14."""
        preexec, close_fds, pass_fds, cwd, env = rest[1:6]
        handles, (gid, gids, uid, umask, new_session, group) = rest[9:15], rest[16:22]
        plain = (preexec, close_fds, gid, gids, uid, group) == (None, True, None, None, None, -1)
        command = Command.of(list(map(str, args))) if plain and isinstance(args, list | tuple) else None
        environ = dict(os.environ if env is None else env)
        if command is None or not _same_interpreter(environ):
            super()._execute_child(args, *rest)  # type: ignore[misc]  # private
            return
        given = [
            handle if handle >= 0 else number for number, handle in enumerate((handles[0], handles[3], handles[5]))
        ]
        request = {
            "command": command,
            "cwd": str(cwd or os.getcwd()),  # noqa: PTH109
            "environ": environ,
            "umask": umask,
            "new_session": new_session,
            "numbers": [0, 1, 2, *pass_fds],
        }
        try:
            self.pid = self.server.fork(request, [*given, *pass_fds])
            self._child_created = True
        finally:
            self._close_pipe_fds(*handles)  # type: ignore[attr-defined]  # private


def family(pid: int) -> list[int]:
    """The process and all that descend from it, but for servers of forks."""
    return [member for member in process.family(pid) if not _is_server(member)]


def control(option: int, value: int | bytes) -> None:
    """Calls prctl(2)."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _is_server(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == f"{SERVER_NAME}\n"
    except OSError:
        return False


def _same_interpreter(environ: Mapping[str, str]) -> bool:
    same = {name: value for name, value in os.environ.items() if name.startswith(INTERPRETER)}
    given = {name: value for name, value in environ.items() if name.startswith(INTERPRETER)}
    return all(value in (same.get(name), NEUTRAL.get(name)) for name, value in given.items())
