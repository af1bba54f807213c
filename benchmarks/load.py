"""Checks from several processes over keep-alive connections, each noted with its times and what came of it."""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import chain
from multiprocessing.synchronize import Event, Semaphore
from typing import NamedTuple

from benchmarks.ground import SUFFIX

PROCESSES = 4
PATIENCE = 60  # seconds that a process of the load may take to connect
_BUCKET = b'ratelimit: "burst";r='


class Asked(NamedTuple):
    """A check of a route that costs so much, with the key of that number."""

    who: int
    cost: int


class Check(NamedTuple):
    """What came of one. `sent` and `answered` are microseconds of the machine's clock, which Redis reads as well.

    `left` whole tokens were in the bucket by the answer, -1 where it says nothing of a bucket.
    """

    who: int
    cost: int
    sent: int
    answered: int
    status: int
    left: int


class Target(NamedTuple):
    """A listener for Envoy, and keys."""

    host: str
    port: int
    keys: Sequence[str]


class _Client(asyncio.Protocol):
    """One connection of a proxy: it asks, notes the answer and asks again, until nothing is wanted any more."""

    _transport: asyncio.Transport
    _asked: Asked
    _sent: int

    def __init__(self, keys: Sequence[str], wanted: Iterator[Asked], seen: list[Check]) -> None:
        self.over = asyncio.get_running_loop().create_future()
        self._keys = keys
        self._wanted = wanted
        self._seen = seen
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(ConnectionError("the service closed a connection"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(SUFFIX)
        if not end or len(body) < _number(head, b"content-length: "):
            return
        self._data = b""
        status, left = int(head[9:12]), _number(head, _BUCKET)
        self._seen.append(Check(*self._asked, self._sent, _now(), status, left))
        self.ask()

    def ask(self) -> None:
        """Asks what is wanted next."""
        asked = next(self._wanted, None)
        if asked is None:
            self.over.set_result(None)
            self._transport.close()
            return
        self._asked = asked
        request = f"GET /{asked.cost} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._keys[asked.who]}\r\n\r\n"
        data = request.encode()
        self._sent = _now()
        self._transport.write(data)


class Crowd:
    """The processes of a load. They last, so that none starts while something is measured."""

    def __init__(self, pool: ProcessPoolExecutor, ready: Semaphore, go: Event) -> None:
        self._pool = pool
        self._ready = ready
        self._go = go

    async def ask(
        self,
        at: Target,
        wanted: Sequence[Asked],
        *,
        connections: int,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> list[Check]:
        """Every check wanted, as fast as answers come, over so many connections of each process.

        `before` is awaited when all are connected and nothing was asked yet.
        """
        loop = asyncio.get_running_loop()
        self._go.clear()
        jobs = [
            loop.run_in_executor(self._pool, _share, at, wanted[number::PROCESSES], connections)
            for number in range(PROCESSES)
        ]
        for _ in jobs:
            assert await asyncio.to_thread(self._ready.acquire, timeout=PATIENCE), "the load could not connect"
        if before is not None:
            await before()
        self._go.set()
        return list(chain.from_iterable(await asyncio.gather(*jobs)))


@contextmanager
def crowd() -> Iterator[Crowd]:
    """Processes that make a load; gone at the end."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    with ProcessPoolExecutor(PROCESSES, context, initializer=_begin, initargs=(ready, go)) as pool:
        yield Crowd(pool, ready, go)


async def ask_all(
    at: Target, wanted: Sequence[Asked], *, connections: int, start: Callable[[], object] | None = None
) -> list[Check]:
    """Every check wanted, from this process; `start` returns when asking may begin."""
    loop = asyncio.get_running_loop()
    seen: list[Check] = []
    queue = iter(wanted)
    clients = [
        (await loop.create_connection(lambda: _Client(at.keys, queue, seen), at.host, at.port))[1]
        for _ in range(connections)
    ]
    if start is not None:
        start()
    for client in clients:
        client.ask()
    await asyncio.gather(*(client.over for client in clients))
    return seen


def seconds(checks: Sequence[Check]) -> float:
    """From the first question to the last answer."""
    return (max(check.answered for check in checks) - min(check.sent for check in checks)) / 1_000_000


_signals: list[tuple[Semaphore, Event]] = []  # of a process of the load: it can be given none later


def _begin(ready: Semaphore, go: Event) -> None:
    _signals.append((ready, go))


def _share(at: Target, wanted: Sequence[Asked], connections: int) -> list[Check]:
    """The part of one process."""
    ((ready, go),) = _signals

    def start() -> None:
        ready.release()
        assert go.wait(PATIENCE)

    return asyncio.run(ask_all(at, wanted, connections=connections, start=start))


def _now() -> int:
    return time.time_ns() // 1000


def _number(head: bytes, name: bytes) -> int:
    """The number behind a name in the head of an answer, -1 where the name is not there."""
    _, found, rest = head.lower().partition(name)
    digits = rest[: len(rest) - len(rest.lstrip(b"0123456789"))]
    return int(digits) if found else -1
