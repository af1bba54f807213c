"""The proxies whose shipped files are tested alike, in front of an upstream that returns every byte that arrived."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from extauthz.demo.folders import temporary_folder
from extauthz.demo.ports import free_port
from extauthz.demo.process import Process
from extauthz.demo.proxies import Envoy, fill
from extauthz.demo.stack import ADMIN, ENVOY, ENVOY_ADMIN, ENVOY_DOOR, FORWARD_DOOR, UPSTREAM, USAGE, Proxy
from tests.e2e.client import Answer
from tests.servers.distribution import distribution_server
from tests.servers.edges import FILES, Caddy, Edge, HAProxy, caddy_from_its_wheel, patient
from tests.servers.raw_upstream import RawUpstream

NAMES = ("envoy", "caddy 2.6", "caddy", "haproxy")
Change = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Front:
    """A proxy, and the upstream behind it."""

    proxy: Proxy
    upstream: RawUpstream
    process: Process

    @property
    def name(self) -> str:
        """As NAMES has it."""
        return self.proxy.name


def seen(answer: Answer) -> list[tuple[str, str]]:
    """The headers that the upstream saw, in order, as often as they came."""
    assert answer.status == 200, f"not from the upstream: {answer}"
    return [(name, value) for name, value in answer.json["headers"]]


@contextmanager
def front(name: str, ports: Mapping[int, int], upstream: RawUpstream, *, change: Change = str) -> Iterator[Front]:
    """The proxy of that name; `change` is made to its shipped configuration."""
    ports = {**ports, UPSTREAM: upstream.port}
    with (
        temporary_folder("extauthz edge ") as folder,
        made(name, folder, ports, lambda text: change(patient(text))) as process,
    ):
        yield Front(Proxy(name, process.port), upstream, process)


def made(name: str, folder: Path, ports: Mapping[int, int], change: Change) -> Envoy | Edge:
    """The proxy, not started yet."""
    if name == "envoy":
        own = {ENVOY: free_port(), ENVOY_ADMIN: free_port()}
        shared = {port: ports[port] for port in (ADMIN, ENVOY_DOOR, USAGE, UPSTREAM)}
        text = change((FILES / "envoy/http.yaml").read_text("utf-8"))
        return Envoy(folder, fill(text, shared | own), port=own[ENVOY])
    if name == "haproxy":
        shared = {port: ports[port] for port in (ADMIN, FORWARD_DOOR, USAGE, UPSTREAM)}
        return HAProxy(folder, shared, distribution_server("haproxy"), change=change)
    program = distribution_server("caddy") if name == "caddy 2.6" else caddy_from_its_wheel()
    return Caddy(folder, {port: ports[port] for port in (FORWARD_DOOR, USAGE, UPSTREAM)}, program, change=change)
