"""Sockets that listen before anything else starts, so that a taken address is known at once."""

import errno
import os
import socket
import stat
from pathlib import Path

from extauthz.core.errors import ExtauthzError


class AddressTaken(ExtauthzError):
    """An address could not be bound; the text names it and says why."""


def bind(host: str, port: int, path: str | None) -> socket.socket:
    """A socket that listens on `host`:`port`, or on the Unix socket `path`. Raises AddressTaken."""
    try:
        return _bind_tcp(host, port) if path is None else _bind_unix(Path(path))
    except (OSError, UnicodeError) as error:  # the latter for a host that can be no name
        where = f"{host}:{port}" if path is None else f"unix:{path}"
        why = error.strerror if isinstance(error, OSError) else None
        raise AddressTaken(f"cannot listen on {where}: {why or error}") from error


def _bind_tcp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen()  # two may bind one address; only one may listen
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: Path) -> socket.socket:
    """A socket that a killed process left behind is replaced; one that answers is somebody's."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
                knock.settimeout(1)
                if knock.connect_ex(str(path)) == 0:
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            path.unlink()
        sock.bind(str(path))
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock
