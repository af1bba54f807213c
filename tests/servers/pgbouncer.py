"""PgBouncer from the distribution before a PostgreSQL, on loopback, with the settings it has by default."""

import struct
from pathlib import Path

from extauthz.demo.folders import am_root, unprivileged_account, write_private
from extauthz.demo.ports import LOOPBACK, ask, free_port
from extauthz.demo.postgres import USER, Postgres
from extauthz.demo.process import Process
from tests.servers.distribution import distribution_server


class PgBouncer(Process):
    """Pools transactions; `settings` are further lines of its configuration."""

    def __init__(self, folder: Path, server: Postgres, **settings: object) -> None:
        super().__init__((), folder / "pgbouncer.log", account=unprivileged_account() if am_root() else None)
        self.port = free_port()
        self._folder = folder
        self._server = server
        self._settings = {"pool_mode": "transaction"} | settings

    def through(self, dsn: str) -> str:
        """The address of a database of the server, through this pooler."""
        return dsn.replace(f":{self._server.port}/", f":{self.port}/")

    def start(self) -> None:
        """Starts it and returns when it answers."""
        super().start()
        self.wait_ready(self._answers)

    def prepare(self) -> None:
        """Writes its configuration; see Process."""
        lines = {
            "listen_addr": LOOPBACK,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": "users",
            **self._settings,
        }
        settings = "".join(f"{name} = {value}\n" for name, value in lines.items())
        databases = f"[databases]\n* = host={LOOPBACK} port={self._server.port}\n"
        for name, text in (("pgbouncer.ini", f"{databases}[pgbouncer]\n{settings}"), ("users", f'"{USER}" ""\n')):
            write_private(self._folder / name, text)
            (self._folder / name).chmod(0o644)
        self.argv = [distribution_server("pgbouncer"), "pgbouncer.ini"]

    def _answers(self) -> bool:
        who = f"user\0{USER}\0database\0postgres\0\0".encode()
        return ask(self.port, struct.pack("!II", 8 + len(who), 196_608) + who)[:1] == b"R"
