"""Files of settings and secrets, and other files of an operator's: plain ones of a sane size, read without waiting.

Links are followed, because Kubernetes mounts a secret as a link into a folder that it exchanges.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path

CONFIG_MAX = 1 << 20  # bytes
SECRET_MAX = 1 << 16  # bytes

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


class UnfitFile(ValueError):
    """Why a file is not read, as the rest of a sentence that begins with its name; no part of its content."""


def read_text(path: Path, limit: int) -> str:
    """The text of a plain file of at most `limit` bytes in UTF-8. Raises UnfitFile."""
    with open_plain(path) as stream:
        content = _read(stream, limit)
    if content.startswith(_BOMS):
        raise UnfitFile("must be UTF-8 without a byte order mark")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UnfitFile(f"is not UTF-8 (byte {error.start})") from None


def open_plain(path: Path, *, pipe: bool = False) -> BufferedReader:
    """A plain file that other users cannot write to, opened; with `pipe` also one that the shell has opened for us.

    The kind is asked before the file is opened, because opening alone can wait (a named pipe) or act (a device).
    Raises UnfitFile.
    """
    try:
        _check(path.stat(), pipe=pipe)
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY), "rb")
    except OSError as error:
        raise UnfitFile(f"cannot be read: {error.strerror}") from None
    try:
        _check(os.fstat(stream.fileno()), pipe=pipe and _is_anonymous(stream.fileno()))
        os.set_blocking(stream.fileno(), pipe)
    except BaseException:
        stream.close()
        raise
    return stream


def is_exposed(path: Path, *, below: Path = Path("/")) -> bool:
    """Whether every user of the machine can read a file, as its mode and the folders above it (from `below`) allow."""
    try:
        real = Path(os.path.realpath(path, strict=True))
        folders = [folder.stat().st_mode for folder in real.parents if folder.is_relative_to(below)]
        return bool(real.stat().st_mode & stat.S_IROTH) and all(mode & stat.S_IXOTH for mode in folders)
    except (OSError, ValueError):  # gone meanwhile, or no path at all
        return False


def _read(stream: BufferedReader, limit: int) -> bytes:
    size = os.fstat(stream.fileno()).st_size
    try:
        content = (stream.read(limit + 1) if size <= limit else None) or b""
    except OSError as error:
        raise UnfitFile(f"cannot be read: {error.strerror}") from None
    if max(size, len(content)) > limit:
        raise UnfitFile(f"must have at most {limit} bytes (got {size if size > limit else 'more'})")
    return content


def _check(status: os.stat_result, *, pipe: bool) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG and not (pipe and kind == stat.S_IFIFO):
        raise UnfitFile(f"must be a plain file (got {_KINDS.get(kind, 'something else')})")
    if kind == stat.S_IFREG and status.st_mode & stat.S_IWOTH:
        raise UnfitFile(f"must not be writable by other users (got mode {stat.S_IMODE(status.st_mode):04o}): chmod o-w")


def _is_anonymous(descriptor: int) -> bool:
    """Whether a pipe has no name, so that its writer was there before us."""
    return Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith("pipe:")
