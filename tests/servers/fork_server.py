"""The process that tests have forked for each `python -m extauthz`: see tests.servers.forking.

One request is one message: arguments, folder and environment as JSON, and the descriptors 0, 1 and 2.
"""

import gc
import importlib
import io
import json
import os
import runpy
import socket
import sys
from typing import Any

MODULES = (
    "cli.main",
    "app.supervisor",
    "app.worker",
    "app.management",
    "app.explain",
    "backends.postgres.migrate",
    "doctor.examination",
)
MAX_MESSAGE = 1 << 20


def main() -> None:
    """Forks until the other end is closed. In each child it runs extauthz, and the interpreter ends as usual."""
    for name in MODULES:
        importlib.import_module(f"extauthz.{name}")
    gc.collect()
    gc.freeze()
    channel = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MAX_MESSAGE, 3)
        if not message:
            return
        read, write = os.pipe()
        between = os.fork()
        if not between:
            child = os.fork()
            if not child:
                break
            os.write(write, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)
        channel.send(os.read(read, 32))
        for descriptor in (read, write, *descriptors):
            os.close(descriptor)
    channel.detach()
    _become(json.loads(message), descriptors)
    gc.unfreeze()
    runpy.run_module("extauthz", run_name="__main__", alter_sys=True)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Gives this process what a new interpreter would have."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, max(descriptors) + 16)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.path[0] = request["cwd"]
    sys.argv[:] = [sys.argv[0], *request["arguments"]]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, _stream(number, getattr(sys, name)))


def _stream(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    buffered = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    line_buffering = number > 0 and (number == 2 or raw.isatty())
    return io.TextIOWrapper(buffered, like.encoding, like.errors, line_buffering=line_buffering)


if __name__ == "__main__":
    main()
