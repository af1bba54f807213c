"""What a bench stands on: real servers in a temporary folder, `extauthz serve` in front, and plain connections."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from extauthz.app import management
from extauthz.backends.postgres import migrate
from extauthz.config import Settings, load
from extauthz.core.credentials import KeyFormat
from extauthz.demo.folders import temporary_folder
from extauthz.demo.postgres import Postgres
from extauthz.demo.process import family
from extauthz.demo.redis import Redis
from tests.servers.process import Service, listening, settings

TOKEN = secrets.token_urlsafe(32)
PLENTY: dict[str, object] = {"rate": "1000000/s", "burst": 10**9, "daily_quota": None, "monthly_quota": None}
SUFFIX = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Ground:
    """A running service; `host` and `port` of its listener for Envoy."""

    service: Service
    settings: Settings
    postgres: Postgres
    redis: Redis
    key_format: KeyFormat
    host: str
    port: int
    admin: str
    environ: Mapping[str, str]
    file: Path

    @asynccontextmanager
    async def beside(self, **more: str) -> AsyncIterator[tuple[Service, str, int]]:
        """Another service on the same stores, with host and port for Envoy; `more` is its environment."""
        async with listening({**self.environ, **more}, "--workers", "1", "--config", self.file) as service:
            await service.until(lambda report: report["status"] == "ready")
            host, _, port = (await service.address("envoy")).rpartition(":")
            yield service, host, int(port)

    def workers(self) -> list[int]:
        """The numbers of its worker processes, or its own where it is alone."""
        members = family(self.service.process.pid)
        return members[1:] or members


@asynccontextmanager
async def ground(*, workers: int, configuration: str = "", **more: str) -> AsyncIterator[Ground]:
    """PostgreSQL, Redis and a service with so many workers; gone at the end.

    `configuration` is the text of its file, `more` are settings by their names in the environment.
    """
    with (
        temporary_folder("extauthz bench ") as folder,
        Postgres(folder / "postgres") as postgres,
        Redis(folder / "redis") as redis,
    ):
        await migrate.upgrade(postgres.dsn)
        environ = settings(postgres.dsn, redis.redis_url, EXTAUTHZ_ADMIN_TOKEN=f"bench:{TOKEN}", **more)
        file = folder / "extauthz.toml"
        file.write_text(configuration)
        async with listening(environ, "--workers", str(workers), "--config", file) as service:
            if workers > 1:
                await service.until(lambda report: report["workers"] == "ok")
            await service.until(lambda report: report["status"] == "ready")
            host, _, port = (await service.address("envoy")).rpartition(":")
            known = load(environ, file)
            yield Ground(
                service,
                known,
                postgres,
                redis,
                management.key_format(known),
                host,
                int(port),
                await service.address("admin"),
                environ,
                file,
            )


class Connection:
    """A keep-alive connection of a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, key: str) -> int:
        """The status of a check of `GET /` with that key."""
        self._writer.write(f"GET / HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        head = await self._reader.readuntil(SUFFIX)
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        await self._reader.readexactly(int(length))
        return int(head[9:12])

    def close(self) -> None:
        """Ends it."""
        self._writer.close()


@asynccontextmanager
async def connections(at: Ground, count: int) -> AsyncIterator[list[Connection]]:
    """So many connections, some on each worker."""
    opened: list[Connection] = []
    try:
        before = _sockets(at)
        for _ in range(10 * count):
            opened.append(Connection(*await asyncio.open_connection(at.host, at.port)))
            if len(opened) >= count and all(now > then for now, then in zip(_sockets(at), before, strict=True)):
                break
        yield opened
    finally:
        for connection in opened:
            connection.close()


def _sockets(at: Ground) -> list[int]:
    return [
        sum(1 for each in Path(f"/proc/{pid}/fd").iterdir() if _target(each).startswith("socket:"))
        for pid in at.workers()
    ]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table in Markdown."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, ["-" * width for width in widths], *rows):
        line = " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print(f"| {line} |")
