"""Plays events on connections without a socket: each piece of bytes arrives as it was cut."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest

from extauthz.core.changes import EntityRef
from extauthz.core.limits import Limits, Rate
from extauthz.core.permissions import FULL_ACCESS
from extauthz.core.reason import Reason
from extauthz.core.rejections import Group
from extauthz.core.spend import Owner
from extauthz.core.token_bucket import State
from tests.unit.service.asking import KEY_ITSELF, ORGANIZATION
from tests.unit.service.fakes import KEY, TENANT, FakeService, open_house
from tests.unit.transports.check_listener import PATIENCE, Door
from tests.unit.transports.wire_stories import Step, Story

QUIET_TURNS = 40  # of the loop, after which nothing is under way

_DATE = re.compile(rb"(?<=\r\nDate: )[^\r]+")


class Outcome(NamedTuple):
    """The outcome of a story.

    `answers` of each connection, and whether it has ended; `quiet`: how long they were whenever nothing was under way;
    `charged` by owner; `refused`: the number of denials by subject, route and reason, at any time.
    """

    answers: list[tuple[bytes, bool]]
    quiet: list[int]
    reasons: list[tuple[str, Reason]]
    in_shadow: list[Reason]
    charged: dict[Owner, State]
    refused: dict[Group, int]


class Pipe(asyncio.Transport):
    """The client's side of a connection: bytes sent to it arrive at once, unless its reading is paused."""

    def __init__(self, connection: asyncio.Protocol) -> None:
        super().__init__()
        self.written = b""
        self.closing = False
        self.connection = connection
        self._reading = True
        self._unread = b""
        connection.connection_made(self)

    def send(self, data: bytes) -> None:
        """Bytes arrive."""
        self._unread += data
        self._deliver()

    def _deliver(self) -> None:
        if self._reading and self._unread and not self.closing:
            data, self._unread = self._unread, b""
            self.connection.data_received(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closing:
            self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self._deliver)

    def get_write_buffer_size(self) -> int:
        return 0


class Player:
    """A FakeService, one listener of it, and connections, of which one is used at a time."""

    def __init__(self, fake_service: FakeService, door: Door, connect: Callable[[], Pipe]) -> None:
        self._house = fake_service
        self._door = door
        self._connect = connect
        self._pipes = [connect(), connect()]  # the last one is used
        self._quiet: list[int] = []
        self._writing = True
        self._key = KEY
        fake_service.keys.gates["find"] = self._gate = asyncio.Event()
        self._gate.set()

    async def play(self, steps: list[Step]) -> Outcome:
        """All steps, and what came of them."""
        for step in steps:
            await self._do(step)
        answers = [(_DATE.sub(b"-", pipe.written), pipe.closing) for pipe in self._pipes]
        for pipe in self._pipes:
            pipe.close()
        await self._settle()
        watch, rejections = self._house.watch, self._house.rejections
        for pull in rejections._pulls:
            for _ in pull():
                pass
        refused: Counter[Group] = Counter()
        for group, count in rejections._counts.items():
            refused[group._replace(since=0)] += count  # in one span or in two
        return Outcome(answers, self._quiet, watch.reasons, watch.in_shadow, self._house.limits.states, refused)

    async def _do(self, step: Step) -> None:
        pipe = self._pipes[-1]
        match step.kind:
            case "send":
                pipe.send(step.data)
            case "turns":
                await turns(step.number)
            case "settle":
                await self._settle()
                if self._writing:  # else one way may be further than the other
                    self._quiet.append(len(pipe.written))
            case "keep keys waiting":
                self._gate.clear()
            case "keep limits waiting":
                self._house.limits.gate.clear()
            case "let go":
                self._gate.set()
                self._house.limits.gate.set()
            case "drain":
                self._door.health.draining = True
            case "lose":
                await self._house.lose(getattr(self._house, step.change))
            case "change":
                self._change(step.change, *((KEY_ITSELF, ORGANIZATION) if step.told else ()))
            case _:
                self._connection(step.kind, pipe)

    def _connection(self, kind: str, pipe: Pipe) -> None:
        """What happens to the connection, or which one is used from now on."""
        match kind:
            case "connection" if pipe.closing:
                self._pipes.append(self._connect())
            case "other connection":
                self._pipes.append(self._connect() if pipe.closing else self._pipes.pop(0))
            case "leave":
                pipe.close()
            case "pause writing" if not pipe.closing:
                self._writing = False
                pipe.connection.pause_writing()
            case "resume writing" if not self._writing:
                self._writing = True
                pipe.connection.resume_writing()

    def _change(self, change: str, *things: EntityRef) -> None:
        """The key or its organization changes with a notification of `things`; or time passes."""
        key = self._key
        match change:
            case "suspended" | "active":
                key = replace(key, tenant=replace(key.tenant, status=change))
            case "all permissions":
                key = replace(key, permissions=FULL_ACCESS)
            case "few permissions":
                key = replace(key, permissions=KEY.permissions)
            case "no limits":
                key = replace(key, tenant=replace(key.tenant, limits=Limits()))
            case "daily quota":
                key = replace(
                    key, tenant=replace(key.tenant, limits=Limits(TENANT.limits.rate, TENANT.limits.burst, 3))
                )
            case "burst of two":
                key = replace(key, tenant=replace(key.tenant, limits=Limits(Rate(1, 1), 2)))
            case "no key":
                self._house.change(key, *things)
                del self._house.keys.held[key.digest]
                return
            case "later" | "much later":
                self._house.now += 0.7 if change == "later" else 130
                self._house.limits.now = self._house.now
                return
        self._key = key
        self._house.change(key, *things)

    async def _settle(self) -> None:
        """Returns when nothing is under way but what is kept waiting."""
        quiet, before = 0, self._progress()
        async with asyncio.timeout(PATIENCE):
            while quiet < QUIET_TURNS:
                await asyncio.sleep(0)
                now = self._progress()
                quiet = quiet + 1 if now == before else 0
                before = now

    def _progress(self) -> tuple[int, ...]:
        fake_service = self._house
        written = sum(len(pipe.written) + pipe.closing for pipe in self._pipes)
        return written, len(fake_service.watch.reasons), len(fake_service.keys.asked), len(fake_service.tenants.asked)


async def turns(number: int) -> None:
    """Lets the loop do so many."""
    for _ in range(number):
        await asyncio.sleep(0)


async def play(story: Story, *, fast_path: bool) -> tuple[Outcome, int]:
    """What came of a story, and how many requests came as aiohttp's."""
    factories: dict[object, Callable[[], asyncio.Protocol]] = {}

    class Acceptor:
        """A stand-in for the acceptor of sockets."""

        def __init__(self, connection: Callable[[], asyncio.Protocol], sock: object) -> None:
            factories[sock] = connection

        async def open(self) -> None:
            """Nothing listens."""

        async def close(self) -> None:
            """Nothing listened."""

    async with open_house(**story.options) as fake_service:
        door = Door(fake_service, fast_path=fast_path)
        for sock in door.sockets.values():
            sock.close()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("extauthz.transports.http.server.Acceptor", Acceptor)
            for module in ("handler", "fast_check"):
                patch.setattr(f"extauthz.transports.http.{module}.time", lambda: fake_service.now)
            async with door.open():
                connection = factories[door.sockets[story.listener]]
                outcome = await Player(fake_service, door, lambda: Pipe(connection())).play(story.steps)
    return outcome, door.by_aiohttp
