"""Check listeners in front of a FakeService, and answers as sent on the wire, byte for byte except `Date`."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from extauthz.core.failure import OnRedisDown
from extauthz.core.trace import Trace
from extauthz.service.health import Health
from extauthz.transports.http.bounded import HEAD_SECONDS
from extauthz.transports.http.connection import CheckConnection
from extauthz.transports.http.dialect import Answer, Dialect, ReceivedHeaders, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx, NginxQuestion
from extauthz.transports.http.fast_path import FastPath
from extauthz.transports.http.handler import CheckHandler
from extauthz.transports.http.listen import bind
from extauthz.transports.http.server import CheckDoor, serve_checks
from tests.servers.serving import question
from tests.unit.service.asking import asked_at
from tests.unit.service.fakes import SECRET, FakeService

PATIENCE = 20.0  # seconds that anything may take on a busy machine
ALLOWED = question("envoy", "/api/customers/7", key=SECRET)
REFUSED = question("envoy", "/api/customers/7")
AMBIGUOUS = question("envoy", "/a//b")
WAITS = question("envoy", "/api/customers/8", key=SECRET)  # for its limits, where their store waits
LAST = question("envoy", "/api/customers/7", more=b"Connection: close\r\n")

_DATE = re.compile(rb"(?<=\r\nDate: )[^\r]+")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")
_DECISION = re.compile(rb"\r\nx-extauthz-decision: (\w+)\r\n")


class Handler(CheckHandler):
    """Counts its checks, and how many of them came as a request of aiohttp's."""

    judged = 0
    by_aiohttp = 0

    async def judge(self, method: str, target: str, received: ReceivedHeaders, *, begun: Trace | None = None) -> Answer:
        self.judged += 1
        return await super().judge(method, target, received, begun=begun)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.by_aiohttp += 1
        return await super().answer(request)


class Door:
    """A check listener for each dialect."""

    def __init__(
        self,
        fake_service: FakeService,
        *,
        fast_path: bool,
        question: NginxQuestion = "uri",
        path_prefix: str = "",
        wording: Wording = Wording(),  # noqa: B008 - nothing changes it
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        self.fake_service = fake_service
        self.fast_path = fast_path
        self.head_seconds = head_seconds
        self.health = Health(
            postgresql=fake_service.postgresql, redis=fake_service.redis, on_redis_down=OnRedisDown.OPEN
        )
        dialects: tuple[Dialect, ...] = (
            Envoy(wording, path_prefix=path_prefix),
            Nginx(wording, question=question),
            Forward(wording),
        )
        self.handlers = {
            dialect.name: Handler(fake_service.service, dialect, deadline=PATIENCE, health=self.health)
            for dialect in dialects
        }
        self.sockets = {name: bind("127.0.0.1", 0, None) for name in self.handlers}

    @property
    def by_aiohttp(self) -> int:
        """How many requests took aiohttp's path."""
        return sum(handler.by_aiohttp for handler in self.handlers.values())

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Door"]:
        """Listens until left."""
        doors = {self.sockets[name]: self.check_door(name) for name in self.handlers}
        async with serve_checks(doors, head_seconds=self.head_seconds):
            yield self

    def check_door(self, listener: str) -> CheckDoor:
        """Answers of a listener."""
        handler = self.handlers[listener]
        return CheckDoor(handler, self._fast_path(handler) if self.fast_path else None)

    def _fast_path(self, handler: Handler) -> FastPath:
        fake_service = self.fake_service
        tally = fake_service.watch.tally(handler.dialect.name)
        path = FastPath(fake_service.fast, handler, tally=tally, observer=fake_service.rejections)
        fake_service.rejections.pull(path.denials.count)
        return path

    @asynccontextmanager
    async def client(self, listener: str = "envoy", *, receive: int | None = None) -> AsyncIterator["Client"]:
        """A connection; `receive` bytes is what its side of the wire holds."""
        sock = socket.socket()
        if receive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.connect(self.sockets[listener].getsockname())
        reader, writer = await asyncio.open_connection(sock=sock, limit=receive or 65_536)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    async def warm(self, listener: str = "envoy", *, key: str = SECRET) -> None:
        """Reads the records of a key, so that its next check needs nothing but its limits."""
        async with self.client(listener) as client:
            await client.ask(question(listener, "/api/beta/1", key=key))

    async def has_read(self, listener: str = "envoy") -> None:
        """Returns when earlier bytes were read, because another connection was answered since."""
        async with self.client(listener) as other:
            await other.ask(question(listener, "/a//b"))


class Client:
    """One connection, and its answers as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(data)

    async def answer(self, *, to_head: bool = False) -> bytes:
        """The next answer, all of it, without its date."""
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            assert length, head
            body = b"" if to_head else await self._reader.readexactly(int(length[1]))
        return _DATE.sub(b"-", head) + body

    async def ask(self, data: bytes) -> bytes:
        """Sends bytes and returns the answer."""
        self.send(data)
        return await self.answer()

    async def rest(self) -> bytes:
        """The bytes until the other side closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return _DATE.sub(b"-", await self._reader.read())
            except ConnectionResetError:
                return b""


async def held(door: Door, client: Client, data: bytes = WAITS) -> asyncio.Event:
    """Makes the check of a client wait for its limits, on the intended path, until the event is set."""
    await door.warm()
    limits, by_aiohttp = door.fake_service.limits, door.by_aiohttp
    gate, limits.entered = await asked_at(door.fake_service, "spend"), asyncio.Semaphore(0)
    client.send(data)
    await limits.entered.acquire()
    assert (door.by_aiohttp == by_aiohttp) is door.fast_path
    return gate


def with_line(line: bytes, *, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """A request with one more line."""
    asked = ALLOWED.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n") if line else ALLOWED
    return asked.replace(b"GET", method, 1).replace(b"HTTP/1.1", b"HTTP/" + version)


def decisions(data: bytes) -> list[str]:
    """The decisions of answers that stand one behind the other."""
    return [found.decode() for found in _DECISION.findall(data)]


def tasks() -> set["asyncio.Task[None]"]:
    """What aiohttp runs for connections."""
    return {task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "").endswith(".start")}


async def all_over() -> None:
    """Returns when no connection is left."""
    under_way = tasks()
    if under_way:
        _, late = await asyncio.wait(under_way, timeout=PATIENCE)
        assert not late


def connections(objects: list[object]) -> int:
    """How many connections of extauthz are among objects."""
    return sum(type(each) is CheckConnection for each in objects)
