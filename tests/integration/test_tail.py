"""`extauthz tail` beside a service as operators run both: each decision is on the terminal at once."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession

from extauthz.admin.api import AdminApi
from extauthz.core.management import KeyDetails
from extauthz.core.tail import TailFilter
from extauthz.service.tails import TAILS_MAX, Tails
from extauthz.telemetry.decision_record import FIELDS
from tests.servers.admin_api import TOKENS, call, serving
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.process import INHERITED, PATIENCE, Service, listening, settings
from tests.servers.serving import PATIENT
from tests.servers.shell import Shell
from tests.servers.waiting import until

TOKEN = "the-token-of-ops-has-32-bytes-or-more"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def key(operator: ManagementClient) -> tuple[KeyDetails, str]:
    """A key of an organization with no limits."""
    await operator.tenants.create_plan("plenty", NO_LIMITS)
    await operator.tenants.create_organization("acme", "plenty")
    return await operator.new_key("acme")


@pytest.fixture
def environ(database: str, redis_url: str) -> dict[str, str]:
    return settings(database, redis_url, EXTAUTHZ_ADMIN_TOKEN=f"ops:{TOKEN}") | PATIENT


class Watching:
    """A tail that runs: what it prints, once it watches."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def error(self) -> str:
        """The next line on standard error."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stderr.readline()).decode().rstrip("\n")

    async def line(self) -> str:
        """The next line on standard output."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def decision(self) -> dict[str, Any]:
        """The same as JSON."""
        found: dict[str, Any] = json.loads(await self.line())
        assert tuple(found) == FIELDS
        return found

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def tailing(service: Service, *arguments: str, **environ: str) -> AsyncIterator[Watching]:
    """A tail of a service that watches it by now. At the end it is interrupted, unless it has ended."""
    given = INHERITED | {"EXTAUTHZ_ADMIN_TOKEN": TOKEN, "EXTAUTHZ_ADMIN_LISTEN": await service.address("admin")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extauthz", "tail", *arguments, env=given | environ, stdout=PIPE, stderr=PIPE
    )
    watching = Watching(process)
    try:
        first = await watching.error()
        assert first.startswith("Watching decisions at "), first
        yield watching
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        await process.communicate()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_every_decision(environ: dict[str, str], key: tuple[KeyDetails, str], workers: str) -> None:
    """Of all workers, as JSON lines with the schema of the decision log; Ctrl-C ends it with status 0."""
    async with listening(environ, "--workers", workers) as service, AsyncExitStack() as stack:
        details, secret = key
        only = ("--org", "acme", "--key", details.id, "--decision", "allow")
        tail = await stack.enter_async_context(tailing(service, "--json", *only))
        wanted = set(range(int(workers)))
        seen: set[int] = set()
        async with asyncio.timeout(PATIENCE):
            while seen != wanted:
                assert (await service.check(secret, "/api/7?q=1")).decision == "allow"
                found = await tail.decision()
                assert (found["decision"], found["path"], found["api_key_id"]) == ("allow", "/api/7", details.id)
                seen.add(found["worker"])
        tail.process.send_signal(signal.SIGINT)
        assert await tail.ended() == 0
        assert (await service.metrics())["extauthz_tail_dropped_total"] == 0


async def test_only_what_is_asked_for(
    environ: dict[str, str], key: tuple[KeyDetails, str], operator: ManagementClient
) -> None:
    """By organization (its name or id), key and decision; what does not fit is not shown."""
    details, secret = key
    other = (await operator.new_key("initech"))[1]
    async with listening(environ) as service, ClientSession(headers=BEARER) as client, AsyncExitStack() as open_ones:
        url = f"http://{await service.address('admin')}/v1/tail"
        filters = (
            {"organization_id": "acme"},
            {"organization_id": details.organization_id, "decision": "allow"},
            {"api_key_id": details.id},
            {"decision": "denials"},
        )
        answers = [await open_ones.enter_async_context(client.get(url, params=only)) for only in filters]
        for answer in answers:
            assert await answer.content.readline() == b'{"dropped":0}\n'
        for given in (other, "", secret):
            await service.check(given)
        *of_acme, denied = [json.loads(await answer.content.readline()) for answer in answers]
        assert {found["api_key_id"] for found in of_acme} == {details.id}
        assert denied["decision"] == "no_credentials"


async def test_lines_of_text(environ: dict[str, str], key: tuple[KeyDetails, str]) -> None:
    """One line each: time, decision and reason, the organization's name, how long it took, method and path."""
    async with listening(environ) as service, tailing(service) as tail:
        await service.check(key[1], "/api/customers/7?secret=1")
        time, decision, organization, took, method, path = (await tail.line()).split()
        assert len(time) == len("12:34:56")
        assert (decision, organization, method, path) == ("allow", "acme", "GET", "/api/customers/7")
        assert took.endswith("ms")
        await service.check()
        await service.get("nginx", "/")
        assert "no_credentials" in await tail.line()
        assert (await tail.line()).split()[1] == "bad_proxy_request"


async def test_at_a_unix_socket(environ: dict[str, str], key: tuple[KeyDetails, str], tmp_path: Path) -> None:
    """As the settings have it, and as --admin says."""
    place = f"unix:{tmp_path}/admin.sock"
    async with listening(environ | {"EXTAUTHZ_ADMIN_LISTEN": place}, "--workers", "2") as service:
        for arguments in ((), ("--admin", place)):
            async with tailing(service, "--json", *arguments) as tail:
                await service.check(key[1])
                assert (await tail.decision())["decision"] == "allow"


async def test_a_pipe_that_is_closed(environ: dict[str, str], key: tuple[KeyDetails, str]) -> None:
    """After a closed pipe, as by `head`, the tail ends with nothing on standard error, and its slot is free."""
    async with listening(environ) as service, tailing(service, "--json") as tail:
        assert tail.process.stdout is not None
        tail.process.stdout._transport.close()  # type: ignore[attr-defined]  # there is no other way
        await service.check(key[1])
        assert await tail.ended() == 1
        assert await tail.error() == ""


async def test_the_end_of_the_service(environ: dict[str, str]) -> None:
    """A tail says that the service stopped, and does not hold up its end."""
    async with listening(environ, "--workers", "2") as service, tailing(service) as tail:
        assert await service.end() == 0
        assert "has ended the stream" in await tail.error()
        assert await tail.ended() == 1


async def test_the_number_of_tails_is_bounded(environ: dict[str, str]) -> None:
    """One too many is refused with a remedy; a client that goes makes room."""
    async with listening(environ) as service, ClientSession(headers=BEARER) as client, AsyncExitStack() as open_ones:
        url = f"http://{await service.address('admin')}/v1/tail"
        answers = [await open_ones.enter_async_context(client.get(url)) for _ in range(TAILS_MAX)]
        for answer in answers:
            assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
            assert answer.headers["cache-control"] == "no-store"
            assert await answer.content.readline() == b'{"dropped":0}\n'
        async with client.get(url) as refused:
            problem = await refused.json(content_type=None)
            assert (refused.status, problem["code"]) == (503, "too_many_tails")
        answers[0].close()

        async def room(method: str) -> bool:
            async with client.request(method, url) as again:
                return again.status == 200

        await until(partial(room, "GET"))
        await until(partial(room, "HEAD"))


async def test_an_id_in_capitals() -> None:
    """Ids of organizations and keys are taken in either case, as everywhere in the API."""
    watched: list[TailFilter] = []
    seen = asyncio.Event()

    async def watch(filters: Mapping[int, TailFilter]) -> None:
        watched.extend(filters.values())
        seen.set()

    id_ = str(uuid4())
    async with serving(AdminApi(None, TOKENS, tails=Tails(watch))) as port, asyncio.timeout(PATIENCE):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(call("GET", f"/v1/tail?api_key_id={id_.upper()}"))
        await seen.wait()
        writer.close()
    assert watched == [TailFilter(api_key_id=id_)]


async def test_a_tail_that_does_not_read() -> None:
    """Decisions without room are counted, and reported when it reads on; another tail misses nothing."""
    numbers: list[int] = []

    async def watch(filters: Mapping[int, TailFilter]) -> None:
        numbers[:] = filters

    tails, line = Tails(watch), b'{"path":"%b"}\n' % (b"x" * 1000)
    async with serving(AdminApi(None, TOKENS, tails=tails)) as port, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(call("GET", "/v1/tail"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with tails.open(TailFilter()) as other:
            delivered, seen = 0, 0
            while not tails.count_dropped():
                tails.deliver(numbers, line)
                delivered += 1
                seen += (await other.take(PATIENCE))[0].count(b"\n")
            assert seen == delivered
        said = b""
        while b'{"dropped":1}' not in said:
            said = said[-100:] + await reader.read(65_536)
        writer.close()


@pytest.mark.parametrize(
    ("arguments", "given", "status", "said"),
    [
        ([], {"EXTAUTHZ_ADMIN_TOKEN": ""}, 2, "EXTAUTHZ_ADMIN_TOKEN: required; set it to a token"),
        ([], {"EXTAUTHZ_ADMIN_LISTEN": "off"}, 2, "EXTAUTHZ_ADMIN_LISTEN is off: name the private listener"),
        ([], {"EXTAUTHZ_ADMIN_LISTEN": "127.0.0.1:0"}, 2, "EXTAUTHZ_ADMIN_LISTEN has port 0: name the port"),
        ([], {"EXTAUTHZ_ADMIN_LISTEN": "127.0.0.1:1"}, 1, "nothing answers at 127.0.0.1:1 (Connection refused)"),
        (["--admin", "http://127.0.0.1:1/"], {}, 1, "nothing answers at http://127.0.0.1:1 (Connection refused)"),
        (["--admin", "unix:/nowhere"], {}, 1, "nothing answers at unix:/nowhere"),
        (["--admin", "ftp://x"], {}, 2, "--admin must be http://host:port, host:port or unix:/path"),
        (["--decision", "denied"], {}, 2, "--decision must be one of allow, no_credentials"),
        (["--key", "x"], {}, 2, "the id of a key must be a UUID"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], given: dict[str, str], status: int, said: str) -> None:
    """One line with the remedy; no other setting is needed."""
    shell = Shell(tmp_path, {"EXTAUTHZ_ADMIN_TOKEN": TOKEN})
    assert shell.refused(status, "tail", *arguments, **given).startswith(said)


async def test_what_the_service_refuses(environ: dict[str, str], tmp_path: Path) -> None:
    """A wrong token, an organization that there is not, a listener that is none, a service without a token."""
    async with listening(environ) as service:
        at = {"EXTAUTHZ_ADMIN_LISTEN": await service.address("admin"), "EXTAUTHZ_ADMIN_TOKEN": TOKEN}
        shell = Shell(tmp_path, at)
        other = TOKEN.replace("ops", "sop")
        assert "refuses the token" in await asyncio.to_thread(shell.refused, 1, "tail", EXTAUTHZ_ADMIN_TOKEN=other)
        assert "no organization" in await asyncio.to_thread(shell.refused, 1, "tail", "--org", "nobody")
        envoy = await service.address("envoy")
        assert "is not the private listener" in await asyncio.to_thread(shell.refused, 1, "tail", "--admin", envoy)
    async with listening(environ | {"EXTAUTHZ_ADMIN_TOKEN": ""}) as service:
        at["EXTAUTHZ_ADMIN_LISTEN"] = await service.address("admin")
        said = await asyncio.to_thread(Shell(tmp_path, at).refused, 1, "tail")
        assert "has no EXTAUTHZ_ADMIN_TOKEN: set one and start it again" in said


def test_ctrl_c_while_nothing_answers(tmp_path: Path) -> None:
    """Ctrl-C ends a tail at once, with status 0, also while it waits for a listener that says nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        shell = Shell(tmp_path, {"EXTAUTHZ_ADMIN_TOKEN": TOKEN})
        command = shell.start("tail", "--admin", f"127.0.0.1:{silent.getsockname()[1]}")
        connection, _ = silent.accept()
        os.kill(command.pid, signal.SIGINT)
        assert command.communicate(timeout=PATIENCE) == ("", "")
        assert command.returncode == 0
        connection.close()
