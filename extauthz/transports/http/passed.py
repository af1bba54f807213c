"""Listening sockets that were passed by the process that started us: systemd's protocol, `sd_listen_fds(3)`.

Two instances that get the same socket answer from one queue, so that the second can take over without a lost request.
"""

import os
import socket
from collections.abc import MutableMapping

from extauthz.transports.http.listen import AddressTaken, address_of, resolve

FIRST = 3  # descriptor
# Seconds that a start waits for its stores before it answers: briefly, because a proxy has no other endpoint perhaps;
# longer where another instance may be answering on the same sockets.
FIRST_START_SECONDS, TAKE_OVER_SECONDS = 0.5, 5.0


class PassedSockets:
    """The sockets that were passed, until each is taken by the listener that has its address."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Removes the protocol's variables from `environ`, since they are for this process alone.

        Raises AddressTaken for a descriptor that is not a listening stream socket.
        """
        meant = environ.get("LISTEN_PID") == str(os.getpid())
        count = environ.get("LISTEN_FDS", "") if meant else ""
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            environ.pop(name, None)
        self._sockets = [_listening(FIRST + number) for number in range(int(count) if count.isdigit() else 0)]

        self.patience = TAKE_OVER_SECONDS if self._sockets else FIRST_START_SECONDS

    def take(self, host: str, port: int, path: str | None) -> socket.socket | None:
        """The socket with this address; None where none was passed."""
        if not self._sockets:
            return None
        try:
            wanted = path if path is not None else resolve(host, port)[1][:2]
        except OSError:  # binding says what is wrong
            return None
        for number, sock in enumerate(self._sockets):
            name = sock.getsockname()
            if (name if isinstance(name, str) else name[:2]) == wanted:
                return self._sockets.pop(number)
        return None

    def check_all_taken(self) -> None:
        """Raises AddressTaken where a socket was passed that no listener has the address of."""
        if self._sockets:
            where = address_of(self._sockets[0])
            raise AddressTaken(f"LISTEN_FDS passes a socket on {where}, which is the address of no listener")


def _listening(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
        fits = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        fits = False
    if not fits:
        raise AddressTaken(f"LISTEN_FDS passes descriptor {descriptor}, which is not a listening stream socket")
    os.set_inheritable(descriptor, False)
    return sock
