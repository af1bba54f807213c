"""TCP ports of this machine's loopback: a free one, and whether somebody answers on one."""

import secrets
import socket
from contextlib import suppress

from extauthz.demo.folders import ServerFailed

LOOPBACK = "127.0.0.1"


def free_port(preferred: int | None = None) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on: the preferred one if it is free, else any.

    Others are drawn from below the range that the kernel hands to outgoing connections, so that a server that is
    stopped finds its port again.
    """
    if preferred is not None and _is_free(preferred):
        return preferred
    for _ in range(1000):
        if _is_free(port := 20_000 + secrets.randbelow(12_000)):
            return port
    raise ServerFailed("no free port was found on 127.0.0.1")


def ask(port: int, question: bytes, enough: int = 1) -> bytes:
    """Sends `question` to the port and returns the first bytes of the answer, at least `enough` of them or all.

    Raises OSError when nobody listens or the answer takes longer than a second.
    """
    with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
        connection.sendall(question)
        answer = b""
        while len(answer) < enough and (more := connection.recv(4096)):
            answer += more
        return answer


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()  # the bind alone succeeds beside another that is bound and not yet listening
        except OSError:
            return False
        return True
