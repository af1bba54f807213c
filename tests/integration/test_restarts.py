"""Restarts behind the shipped files of both proxies, at a hundred requests a second each: none is lost."""

import asyncio
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from extauthz.demo.folders import temporary_folder
from extauthz.demo.ports import free_port
from extauthz.demo.process import NEUTRAL_ENVIRONMENT, Process
from extauthz.demo.proxies import Envoy, Nginx, fill, proxy_files
from extauthz.demo.stack import ADMIN, ENVOY, ENVOY_ADMIN, ENVOY_DOOR, NGINX, NGINX_DOOR, UPSTREAM, USAGE
from tests.servers.edges import patient
from tests.servers.management_client import ManagementClient
from tests.servers.process import Service, settings, started
from tests.servers.serving import PATIENT
from tests.servers.waiting import until

INTERVAL = 0.025  # seconds between two requests to the same proxy
QUIET = 0.5  # seconds of load before and after each step
DRAINS = PATIENT | {"EXTAUTHZ_DRAIN_SECONDS": "2"}  # four probes of the shipped file
DOORS = {"ADMIN": ADMIN, "ENVOY": ENVOY_DOOR, "NGINX": NGINX_DOOR, "USAGE": USAGE}  # ports in the shipped files

# Becomes `serve` with the descriptors of its first argument where systemd puts those that it passes.
PASSING = """
import os, sys
for number, descriptor in enumerate(sys.argv[1].split(","), 3):
    os.dup2(int(descriptor), number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sys.argv[1].split(","))))
os.execv(sys.executable, [sys.executable, "-P", "-m", "extauthz", *sys.argv[2:]])
"""

Ports = Mapping[int, int]


def free_doors() -> dict[int, int]:
    """Ports for one instance, by those of the shipped files."""
    return {port: free_port() for port in DOORS.values()}


def listens(ports: Ports) -> dict[str, str]:
    """The settings of an instance on these ports."""
    ours = {f"EXTAUTHZ_{name}_LISTEN": f"127.0.0.1:{ports[port]}" for name, port in DOORS.items()}
    return {**ours, "EXTAUTHZ_FORWARD_LISTEN": "off"}


as_patient_and_as_shipped = pytest.mark.parametrize(
    "adapted", [patient, pytest.param(str, marks=pytest.mark.deep)], ids=["patient", "as shipped"]
)


@contextmanager
def proxies(*instances: Ports, adapted: Callable[[str], str]) -> Iterator[tuple[int, int]]:
    """Envoy and nginx with the shipped files, `adapted`, in front of instances and a sample upstream; their ports."""
    own = {port: free_port() for port in (ENVOY, ENVOY_ADMIN, NGINX, UPSTREAM)}
    first, *others = instances
    files = proxy_files()
    envoy = adapted((files / "envoy/http.yaml").read_text("utf-8"))
    envoy = fill(envoy, {p: (own | dict(first))[p] for p in (ENVOY, ENVOY_ADMIN, UPSTREAM, ADMIN, ENVOY_DOOR, USAGE)})
    nginx = {file.name: adapted(file.read_text("utf-8")) for file in (files / "nginx").glob("*.conf")}
    main = fill(nginx["nginx.conf"], {p: (own | dict(first))[p] for p in (NGINX, UPSTREAM, NGINX_DOOR, USAGE)})
    for other in others:
        block = rf"(?m)^ +- endpoint:\n.*port_value: {first[ENVOY_DOOR]} .*\n.*port_value: {first[ADMIN]} .*\n"
        (found,) = re.findall(block, envoy)
        again = found.replace(str(first[ENVOY_DOOR]), str(other[ENVOY_DOOR])).replace(
            str(first[ADMIN]), str(other[ADMIN])
        )
        envoy = envoy.replace(found, found + again)
        line = f"server 127.0.0.1:{first[NGINX_DOOR]} max_fails=0;"
        main = main.replace(line, f"{line} server 127.0.0.1:{other[NGINX_DOOR]} max_fails=0;")
    upstream = [sys.executable, "-P", "-m", "extauthz.demo.upstream", str(own[UPSTREAM])]
    with temporary_folder("extauthz test ") as folder, ExitStack() as stack:
        environ = NEUTRAL_ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"}
        sample = stack.enter_context(Process(upstream, folder / "upstream" / "upstream.log", env=environ))
        sample.wait_ready(lambda: sample.listens_on(own[UPSTREAM]))
        stack.enter_context(Envoy(folder / "envoy", envoy, port=own[ENVOY]))
        stack.enter_context(Nginx(folder / "nginx", nginx | {"nginx.conf": main}, port=own[NGINX]))
        yield own[ENVOY], own[NGINX]


class Load:
    """Requests to both proxies at a constant pace; `seen` counts what came back, by proxy."""

    def __init__(self, ports: tuple[int, int], key: str) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self._urls = dict(zip(("envoy", "nginx"), (f"http://127.0.0.1:{port}/api" for port in ports), strict=True))
        self._headers = {"authorization": f"Bearer {key}"}

    async def _ask(self, client: ClientSession, proxy: str) -> None:
        try:
            async with client.get(self._urls[proxy], headers=self._headers) as answer:
                await answer.read()
                told = answer.headers.get("x-extauthz-decision", "none") if answer.status != HTTPStatus.OK else ""
                self.seen[proxy, f"{answer.status} {told}".strip()] += 1
        except ClientError as error:
            self.seen[proxy, type(error).__name__] += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Asks as long as the block lasts, and waits for every answer."""
        connector, patience = TCPConnector(limit=0), ClientTimeout(10)
        async with ClientSession(connector=connector, timeout=patience) as client, asyncio.TaskGroup() as group:
            pace = group.create_task(self._pace(client, group))
            await asyncio.sleep(QUIET)
            yield
            await asyncio.sleep(QUIET)
            pace.cancel()

    async def _pace(self, client: ClientSession, group: asyncio.TaskGroup) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            for proxy in self._urls:
                group.create_task(self._ask(client, proxy))
            due += INTERVAL
            await asyncio.sleep(due - clock())

    def check(self) -> None:
        """Fails where a request was not answered by the upstream."""
        assert set(self.seen) == {("envoy", "200"), ("nginx", "200")}, self.seen
        assert min(self.seen.values()) > 2 * QUIET / INTERVAL / 2


@pytest.fixture
async def key(operator: ManagementClient) -> str:
    """A key of an organization with plenty."""
    plenty = {"rate": "10000/s", "burst": 10**6, "daily_quota": None, "monthly_quota": None}
    await operator.tenants.create_plan("plenty", plenty)
    await operator.tenants.create_organization("acme", "plenty")
    return (await operator.new_key("acme"))[1]


async def is_ready(service: Service) -> None:
    await service.logged("listening")
    await service.until(lambda report: report["status"] == "ready")


async def is_asked(service: Service) -> bool:
    """Whether both proxies have found it again."""
    metrics = await service.metrics()
    return all(
        metrics[f'extauthz_decisions_total{{decision="allow",dialect="{proxy}"}}'] for proxy in ("envoy", "nginx")
    )


@as_patient_and_as_shipped
async def test_a_rolling_restart_of_two_endpoints(
    database: str, redis_url: str, key: str, adapted: Callable[[str], str]
) -> None:
    """Two endpoints are restarted one after the other, and each request is answered by the upstream."""
    ports = [free_doors(), free_doors()]
    environs = [settings(database, redis_url) | DRAINS | listens(each) for each in ports]
    async with started(environs[0]) as first, started(environs[1]) as second:
        await is_ready(first)
        await is_ready(second)
        with proxies(*ports, adapted=adapted) as at:
            load = Load(at, key)
            async with AsyncExitStack() as stack, load.running():
                assert await first.end() == 0
                again = await stack.enter_async_context(started(environs[0]))
                await is_ready(again)
                await until(partial(is_asked, again))
                assert await second.end() == 0
    load.check()


@contextmanager
def bound(ports: Ports) -> Iterator[list[int]]:
    """Listening sockets as a service manager keeps them, by descriptor."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(("127.0.0.1", port))).fileno() for port in ports.values()]


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.deep)])
@as_patient_and_as_shipped
async def test_a_second_instance_takes_over_the_sockets(
    database: str, redis_url: str, key: str, workers: str, adapted: Callable[[str], str]
) -> None:
    """A second instance on the same sockets takes over from the first, and each request is answered."""
    ports = free_doors()
    environ = settings(database, redis_url) | DRAINS | listens(ports)
    with bound(ports) as descriptors, proxies(ports, adapted=adapted) as at:
        argv = (sys.executable, "-c", PASSING, ",".join(map(str, descriptors)))

        def instance() -> AbstractAsyncContextManager[Service]:
            return started(environ, "--workers", workers, argv=argv, pass_fds=descriptors)

        async with instance() as first:
            await is_ready(first)
            load = Load(at, key)
            async with instance() as second, load.running():
                await second.logged("listening")
                assert await first.end() == 0
                assert await second.until(lambda report: report["status"] == "ready") == 200
    load.check()


async def test_a_second_start_by_mistake_is_refused(database: str, redis_url: str) -> None:
    """Without passed sockets an address in use stays an error, and the first instance is not affected."""
    environ = settings(database, redis_url) | listens(free_doors())
    async with started(environ) as first:
        await is_ready(first)
        async with started(environ) as second:
            assert await second.ended() == 1
        assert second.text.endswith(": Address already in use\n")
        assert (await first.check()).decision == "no_credentials"


@pytest.mark.parametrize("kind", ["file", "stranger"])
async def test_unusable_descriptors_are_refused(database: str, redis_url: str, kind: str) -> None:
    """A descriptor that is not a listening socket, and one on an address of no listener: one line, exit status 1."""
    environ = settings(database, redis_url) | listens(free_doors())
    with socket.create_server(("127.0.0.1", 0)) as stranger, socket.socket() as idle:
        given = stranger if kind == "stranger" else idle
        argv = (sys.executable, "-c", PASSING, str(given.fileno()))
        async with started(environ, argv=argv, pass_fds=[given.fileno()]) as service:
            assert await service.ended() == 1
        where = f"127.0.0.1:{stranger.getsockname()[1]}"
    assert (
        service.text
        == {
            "file": "extauthz: LISTEN_FDS passes descriptor 3, which is not a listening stream socket\n",
            "stranger": f"extauthz: LISTEN_FDS passes a socket on {where}, which is the address of no listener\n",
        }[kind]
    )


async def test_a_passed_unix_socket(database: str, redis_url: str, tmp_path: Path) -> None:
    """It is used as it is, whatever its mode, and its file is left for the process that passed it."""
    path = tmp_path / "envoy"
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(path))
        passed.listen()
        environ = settings(database, redis_url) | listens(free_doors())
        environ |= {"EXTAUTHZ_ENVOY_LISTEN": f"unix:{path}", "EXTAUTHZ_SOCKET_MODE": "0600"}
        argv = (sys.executable, "-c", PASSING, str(passed.fileno()))
        before = path.stat().st_mode
        async with started(environ, argv=argv, pass_fds=[passed.fileno()]) as service:
            await is_ready(service)
            assert (await service.check()).decision == "no_credentials"
            assert await service.end() == 0
        assert path.stat().st_mode == before


async def test_sockets_for_another_process_are_left_alone(database: str, redis_url: str) -> None:
    """LISTEN_PID names the process that is meant; the variables of another one's are ignored."""
    environ = (
        settings(database, redis_url) | listens(free_doors()) | {"LISTEN_FDS": "9", "LISTEN_PID": str(os.getpid())}
    )
    async with started(environ) as service:
        await is_ready(service)
        assert await service.end() == 0
