"""`extauthz serve` as operators run it: a process of its own, its log, its listeners, its end.

async with listening(environ, "--workers", "2") as service:
    assert (await service.check(key)).status == 200
    await service.until(lambda report: report["workers"] == "1 of 2")
    assert await service.end() == 0
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import ClientSession, TCPConnector, UnixConnector

from tests.servers.forking import family
from tests.servers.management_client import PEPPERS
from tests.servers.serving import LEASING, LISTENERS, PEPPER_SETTING, samples

PATIENCE = 20.0  # seconds that anything may take on a busy machine
EXTAUTHZ = (sys.executable, "-m", "extauthz")
# What a process gets beside its settings; the second keeps compiled modules out of the sources.
INHERITED = {name: os.environ[name] for name in ("PATH", "PYTHONPYCACHEPREFIX") if name in os.environ}
QUICK = {"EXTAUTHZ_DRAIN_SECONDS": "0"}
FREE_PORTS = {f"EXTAUTHZ_{name.upper()}_LISTEN": "127.0.0.1:0" for name in (*LISTENERS, "usage", "admin")}

Report = Mapping[str, str]
Record = dict[str, Any]


class Reply(NamedTuple):
    """A response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def decision(self) -> str:
        """The decision; empty where there is none."""
        return self.headers.get("x-extauthz-decision", "")


class Service:
    """A running `serve`: `log` holds its records so far, `lines` what it said beside them, `text` everything."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[Record] = []
        self.lines: list[str] = []
        self.text = ""
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.text += line.decode()
            async with self._news:
                if line.startswith(b"{"):
                    self.log.append(json.loads(line))
                else:
                    self.lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()

    async def logged(self, event: str, *, count: int = 1, **fields: object) -> Record:
        """The `count`th record of `event` with these fields, as soon as it is there."""

        def found() -> list[Record]:
            wanted = {"event": event, **fields}
            return [record for record in self.log if record.items() >= wanted.items()]

        async with self._news:
            waiting = asyncio.ensure_future(self._news.wait_for(lambda: len(found()) >= count))
            await asyncio.wait({waiting, self._reader}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
        assert len(found()) >= count, f"no {event} ({count}) in:\n{self.text}"
        return found()[count - 1]

    async def address(self, listener: str) -> str:
        """Where it listens, `host:port` or `unix:/path`."""
        return str((await self.logged("listening"))[listener])

    async def get(self, listener: str, path: str, *, method: str = "GET", **headers: str) -> Reply:
        """The answer to one request on a connection of its own."""
        at = await self.address(listener)
        unix = at.startswith("unix:")
        connector = UnixConnector(at.removeprefix("unix:")) if unix else TCPConnector()
        url = f"http://{'unix' if unix else at}{path}"
        async with ClientSession(connector=connector) as client, client.request(method, url, headers=headers) as answer:
            names = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, names, await answer.text())

    async def check(self, key: str = "", path: str = "/api") -> Reply:
        """The answer to Envoy about a GET with that key."""
        return await self.get("envoy", path, **({"authorization": f"Bearer {key}"} if key else {}))

    async def readyz(self) -> tuple[int, Report]:
        """Status and body of `/readyz`."""
        reply = await self.get("admin", "/readyz")
        return reply.status, json.loads(reply.body)

    async def until(self, holds: Callable[[Report], bool]) -> int:
        """Asks `/readyz` until what it says holds; its status then."""
        async with asyncio.timeout(PATIENCE):
            while True:
                status, report = await self.readyz()
                if holds(report):
                    return status
                await asyncio.sleep(0.02)

    async def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, by name and labels as they stand there."""
        return samples((await self.get("admin", "/metrics")).body)

    def stop_reading(self) -> None:
        """Closes the log's reading end; what is said from now on is lost."""
        transport = self.process._transport.get_pipe_transport(2)  # type: ignore[attr-defined]  # no other way to it
        transport.close()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and waits; the exit status."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """The exit status, once the last process that writes to its log is gone."""
        await asyncio.wait({self._reader}, timeout=PATIENCE)
        assert self._reader.done(), f"still running:\n{self.text}"
        return await self.process.wait()


@asynccontextmanager
async def started(
    environ: Mapping[str, str], *arguments: str | Path, argv: Sequence[str | Path] = EXTAUTHZ, **options: Any
) -> AsyncIterator[Service]:
    """`extauthz serve` with these arguments, which may come up or not. At the end nothing of it is left.

    Where `environ` does not say otherwise, it ends without a drain. `options` are of `Popen`.
    """
    env = INHERITED | QUICK | LEASING | dict(environ)
    process = await asyncio.create_subprocess_exec(
        *argv, "serve", *arguments, env=env, stderr=asyncio.subprocess.PIPE, **options
    )
    service = Service(process)
    try:
        yield service
    finally:
        for member in family(process.pid) if process.returncode is None else ():
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        await service.ended()
    assert not any(pepper.value.decode() in service.text for pepper in PEPPERS)


@asynccontextmanager
async def listening(environ: Mapping[str, str], *arguments: str | Path, **options: Any) -> AsyncIterator[Service]:
    """`started`, on free ports where `environ` does not say others. All it says is JSON lines."""
    async with started(FREE_PORTS | dict(environ), *arguments, **options) as service:
        await service.logged("listening")
        yield service
    assert service.lines == []


def settings(database: str, redis_url: str, **more: str) -> dict[str, str]:
    """The environment of a service on these stores."""
    return {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": PEPPER_SETTING, **more}
