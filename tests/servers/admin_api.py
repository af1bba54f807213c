"""The admin API on a free port, and calls to it as exact bytes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from extauthz.admin.api import AdminApi
from extauthz.app.management import ManagementServices
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.usage_reader import RedisUsageReader
from extauthz.config import load
from extauthz.service.health import Readiness
from extauthz.transports.http.health import Reports, serve_admin
from extauthz.transports.http.listen import bind
from tests.servers.management_client import PEPPERS
from tests.servers.raw_http import Answer, ask

PEPPER_SETTING = ",".join(f"{pepper.id}:{pepper.value.decode()}" for pepper in PEPPERS)
TOKENS = {"ops": b"the token of ops, 32 bytes or more", "ci": b"the token of ci, also long enough"}


def services(pool: Pool, redis: Redis) -> ManagementServices:
    """Management as the private listener has it; the routes know the resource `api`."""
    given = {"DATABASE_URL": "postgresql://elsewhere/", "REDIS_URL": "redis://elsewhere"}
    settings = load(given | {"EXTAUTHZ_KEY_PEPPER": PEPPER_SETTING}, None)
    invalidations = RedisInvalidations(redis, seconds=120)
    return ManagementServices(pool, invalidations=invalidations, live=RedisUsageReader(redis), settings=settings)


async def _readiness() -> Readiness:
    return Readiness(ready=True, draining=False, stores={})


async def _metrics(_: str) -> tuple[bytes, str]:
    return b"", "text/plain"


@asynccontextmanager
async def serving(api: AdminApi) -> AsyncIterator[int]:
    """Serves the API as the private listener does; the port."""
    sock = bind("127.0.0.1", 0, None)
    port: int = sock.getsockname()[1]
    async with serve_admin(Reports(_readiness, _metrics), sock, mount=api.mount):
        yield port


def bearer(token: bytes = TOKENS["ops"]) -> bytes:
    """The header line of a token."""
    return b"Authorization: Bearer " + token + b"\r\n"


def call(method: str, path: str, body: bytes | None = None, *, more: bytes = b"", token: bytes | None = None) -> bytes:
    """The bytes of a call. `more` is further header lines; a body comes with its length and as JSON."""
    told = b"" if body is None else b"Content-Length: %d\r\nContent-Type: application/json\r\n" % len(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\n".encode()
    return head + bearer(TOKENS["ops"] if token is None else token) + told + more + b"\r\n" + (body or b"")


@dataclass(frozen=True, slots=True)
class Caller:
    """A client that calls the API of a port with a token."""

    port: int
    token: bytes = TOKENS["ops"]

    async def __call__(self, method: str, path: str, body: Any = None, *, more: bytes = b"") -> Answer:
        """One call with a JSON body."""
        data = None if body is None else json.dumps(body).encode()
        return check_form(await ask(self.port, call(method, path, data, more=more, token=self.token)))

    async def raw(self, method: str, path: str, body: bytes, *, more: bytes = b"") -> Answer:
        """One call with a body as it is."""
        return check_form(await ask(self.port, call(method, path, body, more=more, token=self.token)))

    async def gone(self, path: str) -> bool:
        """Whether a DELETE was answered with 204, which has neither body nor length."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(call("DELETE", path, more=b"Connection: close\r\n", token=self.token))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return head.startswith(b"HTTP/1.1 204 ") and b"cache-control: no-store" in head.lower() and not body


def check_form(answer: Answer) -> Answer:
    """Asserts the form that every answer of the API has."""
    assert answer["cache-control"] == "no-store"
    assert answer["x-content-type-options"] == "nosniff"
    assert not [name for name, _ in answer.headers if name.startswith("access-control-")]
    if answer.status >= 400:
        assert answer["content-type"] == "application/problem+json"
        problem = json.loads(answer.body)
        assert set(problem) == {"type", "title", "status", "code", "detail", "errors"}
        assert problem["status"] == answer.status
    return answer


def value(answer: Answer) -> Any:
    """The JSON of an answer."""
    return json.loads(answer.body)


def code(answer: Answer) -> str:
    """The code of a problem."""
    return str(value(answer)["code"])


def fields(answer: Answer) -> list[str]:
    """The fields that a problem names."""
    return [str(mistake["field"]) for mistake in value(answer)["errors"]]


async def made(answer: Answer) -> dict[str, Any]:
    """The created item, after a check that it is found at its Location."""
    assert answer.status == 201, answer.body
    thing: dict[str, Any] = value(answer)
    assert answer["location"].endswith(thing["id"])
    assert answer["etag"] == f'"{thing["version"]}"'
    return thing


async def new_key(ops: Caller, **more: object) -> dict[str, Any]:
    """A key of the organization acme, which is made where it is not there."""
    await ops("POST", "/v1/organizations", {"name": "acme"})
    return await made(await ops("POST", "/v1/api-keys", {"organization_id": "acme", **more}))
