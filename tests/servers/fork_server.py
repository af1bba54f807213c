"""The process that has each `python -m extauthz` of tests forked: see tests.servers.forking.

One request is one message: what to run and where as JSON, and the descriptors of the new process.
"""

import atexit
import fcntl
import gc
import importlib
import importlib.util
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

from tests.servers.forking import PR_SET_NAME, SERVER_NAME, ForkingPopen, ForkServer, control

# What commands and workers import, but for the modules that they run: each of these runs as `__main__`.
MODULES = (
    "extauthz.cli.main",
    "extauthz.app.process",
    "extauthz.app.supervisor",
    "extauthz.app.management",
    "extauthz.app.explain",
    "extauthz.config.handover",
    "extauthz.backends.postgres.migrate",
    "extauthz.doctor.examination",
    "uvloop",
)
PARENTS = ("serve", "demo")  # commands that start processes of extauthz
MAX_MESSAGE = 1 << 20
MAX_DESCRIPTORS = 64


def main() -> None:
    """Imports everything and answers until the other end is closed."""
    for name in MODULES:
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))


def _serve(channel: socket.socket) -> None:
    """Forks at each request until the other end is closed. A child runs extauthz, and its interpreter ends as usual."""
    request = _child_or_end(channel)
    if request is None:
        return
    module, arguments, _ = request["command"]
    if module == "extauthz" and arguments and arguments[0] in PARENTS:
        own = _forked_server()
        if own is not None:
            _serve(own)
            return
    _run(module)


def _run(module: str) -> None:
    """Runs the module, and ends in the steps of an interpreter that can be seen from outside.

    Its further steps release all that was imported, which would copy the memory that this process shares.
    """
    status: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]  # private, as the next
    atexit._run_exitfuncs()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError:
        sys.exit(status)  # which reports it
    os._exit(status)


def _child_or_end(channel: socket.socket) -> dict[str, Any] | None:
    """Returns in each child, which has become what its request asks for, and with None at the end."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MAX_MESSAGE, MAX_DESCRIPTORS)
        if not message:
            return None
        read, write = os.pipe()
        between = os.fork()
        if not between:
            child = os.fork()
            if not child:
                channel.detach()
                request: dict[str, Any] = json.loads(message)
                _become(request, descriptors)
                return request
            os.write(write, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)
        channel.send(os.read(read, 32))
        for descriptor in (read, write, *descriptors):
            os.close(descriptor)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Gives this process what a new interpreter would have."""
    _, arguments, safe = request["command"]
    _take(descriptors, request["numbers"])
    control(PR_SET_NAME, b"python")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["new_session"]:
        os.setsid()
    if request["umask"] >= 0:
        os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    if safe:
        del sys.path[0]
    else:
        sys.path[0] = request["cwd"]
    sys.argv[:] = [sys.argv[0], *arguments]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, _stream(number, getattr(sys, name)))


def _take(descriptors: list[int], numbers: list[int]) -> None:
    """Moves the descriptors to their numbers, and closes all others."""
    above = max(*descriptors, *numbers) + 1
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for descriptor in descriptors]
    os.closerange(3, above)
    for copy, number in zip(copies, numbers, strict=True):
        os.dup2(copy, number)
        os.close(copy)


def _stream(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    buffered = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    line_buffering = number > 0 and (number == 2 or raw.isatty())
    return io.TextIOWrapper(buffered, like.encoding, like.errors, line_buffering=line_buffering)


def _forked_server() -> socket.socket | None:
    """Forks a server for children of this process. Returns its channel there, and None here."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        subprocess.Popen = ForkingPopen  # type: ignore[misc]
        ForkingPopen.server = ForkServer(ours)
        return None
    os.setsid()  # signals to the group of its parent are not for it
    os.chdir("/")
    control(PR_SET_NAME, SERVER_NAME.encode())
    null = os.open(os.devnull, os.O_RDWR)
    _take([null, null, null, theirs.detach()], [0, 1, 2, 3])
    ours.detach()  # closed by now
    return socket.socket(fileno=3)


if __name__ == "__main__":
    main()
