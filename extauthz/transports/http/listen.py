"""Sockets that listen before anything else starts, so that a taken address is known at once."""

import errno
import fcntl
import grp
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from extauthz.core.errors import ExtauthzError


class AddressTaken(ExtauthzError):
    """An address could not be bound; the text names it and says why."""


def bind(host: str, port: int, path: str | None, *, mode: int | None = None, group: str = "") -> socket.socket:
    """A socket that is bound to `host`:`port`, or listens on the Unix socket `path`. Raises AddressTaken.

    On TCP a connection is refused until an Acceptor listens: a proxy then takes another endpoint at once, while one
    that waits for a process that still starts would run into its time limit. A Unix socket listens from the start,
    because one that refuses counts as dead.

    A Unix socket gets `mode`, else what the umask leaves, and belongs to `group`, a name or number, where it is given.
    """
    try:
        return _bind_tcp(host, port) if path is None else _bind_unix(Path(path), mode, group)
    except (OSError, UnicodeError, LookupError) as error:  # a host that cannot be a name, a group that does not exist
        where = f"{host}:{port}" if path is None else f"unix:{path}"
        why = (
            error.strerror if isinstance(error, OSError) else error.args[0] if isinstance(error, LookupError) else None
        )
        raise AddressTaken(f"cannot listen on {where}: {why or error}") from error


def listen(sock: socket.socket, backlog: int) -> None:
    """Lets connections to a bound socket wait. Raises AddressTaken: two may bind one address, only one may listen."""
    try:
        sock.listen(backlog)
    except OSError as error:
        raise AddressTaken(f"cannot listen on {address_of(sock)}: {error.strerror}") from error


def address_of(sock: socket.socket) -> str:
    """Where a bound socket is, as a person writes it."""
    name = sock.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{host}:{name[1]}"


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """The first address that a host and port stand for."""
    family, _, _, _, address = socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, address


def _bind_tcp(host: str, port: int) -> socket.socket:
    family, address = resolve(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: Path, mode: int | None, group: str) -> socket.socket:
    """A socket that a killed process left behind is replaced; one that answers is another process's."""
    owner = _group_id(group) if group else -1
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked(path.parent):  # two that start at once must not both find the same one dead
            _remove_dead(path)
            if mode is None and not group:
                sock.bind(str(path))
            else:
                _bind_closed(sock, path, mode, owner)
            sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def _bind_closed(sock: socket.socket, path: Path, mode: int | None, owner: int) -> None:
    """Binds a socket that takes no connection before it has its group and mode."""
    umask = os.umask(0o777)
    try:
        sock.bind(str(path))
    finally:
        os.umask(umask)
    os.chown(path, -1, owner)
    path.chmod(0o777 & ~umask if mode is None else mode)


def _remove_dead(path: Path) -> None:
    """Only a refused connection says that the process behind a socket is gone; a full queue does not."""
    if not (path.exists() and stat.S_ISSOCK(path.stat().st_mode)):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.setblocking(False)
        if knock.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    path.unlink()


def _group_id(group: str) -> int:
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise LookupError(f"EXTAUTHZ_SOCKET_GROUP must be a group of this machine (got {group})") from None


class SocketFiles:
    """The files of Unix sockets that were bound here, to be removed at the end; those of a successor are left."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        paths = [Path(sock.getsockname()) for sock in sockets if sock.family == socket.AF_UNIX]
        # Open, so that no other file gets the same number.
        self._files = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}

    def remove(self) -> None:
        """Removes what is still the same file."""
        for path, held in self._files.items():
            with suppress(OSError), _locked(path.parent):
                if os.path.samestat(path.stat(), os.fstat(held)):
                    path.unlink()
            os.close(held)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps others of us from looking for dead sockets in a folder, or from removing theirs."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
