"""TCP ports of this machine's loopback: a free one, claimed, and which sockets listen on one."""

import secrets
import socket
import sys
from pathlib import Path

from extauthz.demo.folders import ServerFailed

LOOPBACK = "127.0.0.1"
LISTENS = "0A"  # the state TCP_LISTEN in /proc/net/tcp

# A port that was handed out stays claimed until this process ends, so that a server that is stopped finds it again.
_claims: dict[int, int] = {}  # its descriptor, by port


def free_port(preferred: int | None = None) -> int:
    """A TCP port of 127.0.0.1 without a listener: the preferred one if it is free, else any.

    No other process gets the same port from here while this one runs, so two that start at the same moment never meet.
    Others than the preferred one are drawn from below the range that the kernel hands to outgoing connections.
    """
    if preferred is not None and _claim(preferred):
        return preferred
    for _ in range(1000):
        port = 20_000 + secrets.randbelow(12_000)
        if port not in _claims and _claim(
            port
        ):  # one that is claimed waits for its server, which may be about to start
            return port
    raise ServerFailed("no free port was found on 127.0.0.1")


def ask(port: int, question: bytes, enough: int = 1) -> bytes:
    """Sends `question` to the port and returns the first bytes of the answer, at least `enough` of them or all.

    Raises OSError where no process listens or the answer takes longer than a second.
    """
    with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
        connection.sendall(question)
        answer = b""
        while len(answer) < enough and (more := connection.recv(4096)):
            answer += more
        return answer


def listeners(port: int) -> set[str]:
    """The inodes of the sockets that listen on the port of 127.0.0.1."""
    place = f"{int.from_bytes(socket.inet_aton(LOOPBACK), sys.byteorder):08X}:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    return {row[9] for row in rows if row[1] == place and row[3] == LISTENS}


def _claim(port: int) -> bool:
    """Whether the port is free and now ours.

    The claim is a name in the kernel's abstract namespace: it belongs to one process at a time, leaves no file behind
    and ends with the process, however that ends.
    """
    if port in _claims:
        return _is_free(port)
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0extauthz port {port}")
    except OSError:
        claim.close()
        return False
    if not _is_free(port):
        claim.close()
        return False
    _claims[port] = claim.detach()
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()  # the bind alone succeeds beside another that is bound and not yet listening
        except OSError:
            return False
        return True
