"""`python -m extauthz` by a fork of a process that has imported it, because imports cost a second of each start.

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
from typing import Any

EXTAUTHZ = (sys.executable, "-m", "extauthz")
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
INTERPRETER = ("PYTHON", "LC_", "LANG")  # what an interpreter reads before it runs anything


class ForkServer:
    """The process that has imported extauthz; it starts with the first request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Returns the number of a new child of this process, which has these descriptors as 0, 1 and 2."""
        with self._lock:
            channel = self._channel = self._channel or self._start()
            # The child's parent ends at once, so that this process adopts the child: only a parent can wait for it.
            _adopt_orphans(True)
            try:
                socket.send_fds(channel, [json.dumps(request).encode()], descriptors)
                return int(channel.recv(32))
            finally:
                _adopt_orphans(False)

    @staticmethod
    def _start() -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        atexit.register(process.wait)
        atexit.register(ours.close)
        return ours


class ForkingPopen(subprocess.Popen[Any]):
    """A Popen that has `python -m extauthz` forked by the server."""

    server = ForkServer()

    def _execute_child(self, args: Any, *rest: Any) -> None:
        """Overrides the step of Popen that makes the process: its parameters are those of CPython 3.11 to 3.14."""
        preexec, close_fds, pass_fds, cwd, env = rest[1:6]
        handles, (uid, umask, new_session, group) = rest[9:15], rest[18:22]
        environ = dict(os.environ if env is None else env)
        plain = (preexec, close_fds, pass_fds, uid, umask, new_session, group) == (None, True, (), None, -1, False, -1)
        if not (plain and isinstance(args, list | tuple) and _can_fork(list(map(str, args)), environ)):
            super()._execute_child(args, *rest)  # type: ignore[misc]  # private
            return
        request = {"arguments": list(map(str, args[3:])), "cwd": str(cwd or os.getcwd()), "environ": environ}  # noqa: PTH109
        into, out, err = handles[0], handles[3], handles[5]
        descriptors = [given if given >= 0 else number for number, given in enumerate((into, out, err))]
        try:
            self.pid = self.server.fork(request, descriptors)
            self._child_created = True
        finally:
            self._close_pipe_fds(*handles)  # type: ignore[attr-defined]  # private


def _can_fork(args: list[str], environ: Mapping[str, str]) -> bool:
    if tuple(args[:3]) != EXTAUTHZ or "\0" in "".join(args):
        return False
    same = {name: value for name, value in os.environ.items() if name.startswith(INTERPRETER)}
    return all(same.get(name) == value for name, value in environ.items() if name.startswith(INTERPRETER))


def _adopt_orphans(wanted: bool) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
