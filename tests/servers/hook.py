"""A receiver of webhooks over HTTP, and shortcuts that deliver to it."""

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import time

from aiohttp import web
from structlog.typing import EventDict

from extauthz.backends.postgres.events import PostgresQuotaEvents
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.webhook import webhook_receiver
from extauthz.core.usage import QuotaEvent
from extauthz.demo.ports import free_port
from extauthz.service.usage.webhooks import Webhook
from tests.servers.charging_client import GLOBEX, TODAY
from tests.servers.management_client import ManagementClient
from tests.unit.service.fakes import Watch

SECRET = b"a secret of the tests, which is to be seen nowhere"
PASSWORD = "pass-of-the-hook"
EVENT = QuotaEvent(GLOBEX, "daily", TODAY, 80, 8001, 10000)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def verified(key: bytes, headers: dict[str, str], body: bytes) -> str:
    """The id of a message whose signature is right, by the words of the scheme alone."""
    signed = headers["webhook-id"] + "." + headers["webhook-timestamp"] + "."
    expected = base64.b64encode(hmac.new(key, signed.encode() + body, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == "v1," + expected
    assert abs(time() - int(headers["webhook-timestamp"])) < 30
    return headers["webhook-id"]


async def take(request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


async def refuse(request: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text=request.headers["webhook-signature"])


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


async def never_end(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65536)


class Hook:
    """A receiver that records its requests, and answers as a test tells it."""

    def __init__(self) -> None:
        self.port = 0
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.entered = asyncio.Semaphore(0)
        self.answer: Answer = take

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?from=extauthz"

    def ids(self) -> list[str]:
        return [verified(SECRET, *each) for each in self.came]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.came.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        assert (request.method, request.path_qs) == ("POST", "/hooks?from=extauthz")
        self.entered.release()
        return await self.answer(request)


@asynccontextmanager
async def listening(hook: Hook, tls: ssl.SSLContext | None = None) -> AsyncIterator[Hook]:
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", hook.handle)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    hook.port = free_port()
    await web.TCPSite(runner, "127.0.0.1", hook.port, ssl_context=tls).start()
    try:
        yield hook
    finally:
        await runner.cleanup()


@asynccontextmanager
async def webhook(pool: Pool, url: str, *, secret: bytes = SECRET, timeout: float = 5) -> AsyncIterator[Webhook]:  # noqa: ASYNC109 - of a delivery
    async with webhook_receiver(url, timeout=timeout) as receiver:
        yield Webhook(PostgresQuotaEvents(pool), receiver, secret=secret, observer=Watch())


async def state(operator: ManagementClient) -> tuple[bool, bool, int, float | None]:
    """Of the one event: delivered, given up, attempts, and seconds until the next."""
    (row,) = await operator.rows(
        "SELECT delivered_at IS NOT NULL AS done, failed_at IS NOT NULL AS failed, attempts,"
        " extract(epoch FROM next_attempt_at - now())::float8 AS wait FROM quota_events"
    )
    return row["done"], row["failed"], row["attempts"], row["wait"]


def documented(language: str) -> str:
    """The code of the page about webhooks."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "quota-webhooks.md").read_text("utf-8")
    return page.partition(f"```{language}\n")[2].partition("```")[0]


async def make_due(operator: ManagementClient) -> None:
    await operator.sql("UPDATE quota_events SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")


def assert_silent(logs: list[EventDict]) -> None:
    """No secret, signature or address in any line."""
    for word in (SECRET.decode(), PASSWORD, "v1,", "127.0.0.1", "hooks"):
        assert word not in repr(logs)
