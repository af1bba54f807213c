"""A usage listener in front of a FakeService, and the properties of each of its answers."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from extauthz.service.check.limit_status import LimitStatusReader
from extauthz.transports.http.listen import bind
from extauthz.transports.http.usage import serve_usage
from tests.servers.raw_http import Answer, wire
from tests.unit.service.fakes import KEY_FORMAT, SECRET, FakeService, open_house

GOOD = f"Authorization: Bearer {SECRET}\r\n"
STRANGER = f"Authorization: Bearer {KEY_FORMAT.issue(bytes(20))}\r\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """A listener in front of a FakeService."""

    fake_service: FakeService
    port: int

    async def ask(self, more: str = GOOD, *, method: str = "GET", target: str = "/usage") -> Answer:
        """The answer to a request with these header lines; nothing comes behind it."""
        async with wire(self.port) as connection:
            connection.send(f"{method} {target} HTTP/1.1\r\nHost: h\r\n{more}\r\n".encode("latin-1"))
            answer = await connection.answer(to_head=method == "HEAD")
            assert await connection.ended() == b""
        assert (answer["connection"], answer["cache-control"], answer["server"]) == ("close", "no-store", "extauthz")
        return answer

    async def told(self) -> Any:
        """The figures in the answer to the holder of the key."""
        answer = await self.ask()
        assert (answer.status, answer["content-type"]) == (200, "application/json")
        return json.loads(answer.body)


@asynccontextmanager
async def listening(fake_service: FakeService) -> AsyncIterator[Usage]:
    """A listener that is left with the block."""
    sock = bind("127.0.0.1", 0, None)
    async with serve_usage(LimitStatusReader(fake_service.authentication, fake_service.limiter), sock, deadline=5):
        yield Usage(fake_service, sock.getsockname()[1])


@pytest.fixture
async def usage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Usage]:
    """A listener with the clock of its FakeService."""
    async with open_house() as fake_service:
        monkeypatch.setattr("extauthz.transports.http.usage.time", lambda: fake_service.now)
        async with listening(fake_service) as usage:
            yield usage


def check_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer["content-type"]) == (status, "application/problem+json")
    problem = json.loads(answer.body)
    assert (problem["type"], problem["status"], problem["code"]) == ("about:blank", status, code)
    assert "unheard" not in repr(answer)
