"""Webhooks that fail: tried again in growing pauses, at last given up, and no secret is ever shown."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extauthz.backends.postgres.events import PostgresQuotaEvents
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.backends.postgres.usage import PostgresUsage
from extauthz.backends.webhook import webhook_receiver
from extauthz.core.ports import POSTGRESQL
from extauthz.core.usage import QuotaEvent
from extauthz.demo.ports import free_port
from extauthz.demo.postgres import Postgres
from extauthz.service.usage import webhooks as module
from extauthz.service.usage.webhooks import Webhook
from tests.servers.fixtures import stopped
from tests.servers.hook import (
    EVENT,
    PASSWORD,
    SECRET,
    Answer,
    Hook,
    assert_silent,
    documented,
    hang,
    listening,
    make_due,
    never_end,
    redirect,
    refuse,
    state,
    take,
    webhook,
)
from tests.servers.management_client import ManagementClient
from tests.unit.service.fakes import Watch

TLS = Path(__file__).parent.parent / "servers" / "tls"


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with listening(Hook()) as listens:
        yield listens


@pytest.fixture
async def event(pool: Pool) -> QuotaEvent:
    """One event that was not delivered yet."""
    await PostgresUsage(pool).announce([EVENT])
    return EVENT


@pytest.mark.parametrize(("answer", "reason"), [(refuse, "status 503"), (redirect, "status 302"), (hang, "timeout")])
async def test_a_receiver_that_does_not_take_it(
    operator: ManagementClient, pool: Pool, hook: Hook, event: QuotaEvent, answer: Answer, reason: str
) -> None:
    """A failed delivery is logged once, without secrets; redirects are not followed, a retry comes seconds later."""
    hook.answer = answer
    async with webhook(pool, hook.url, timeout=0.3 if answer is hang else 5) as hooks:
        with capture_logs() as logs:
            assert (await hooks.deliver(), await hooks.deliver()) == (1, 0)
        (line,) = logs
        assert (line["event"], line["reason"], line["attempt"]) == ("webhook_not_delivered", reason, 1)
        assert_silent(logs)
        done, failed, attempts, wait = await state(operator)
        assert (done, failed, attempts) == (False, False, 1)
        assert wait is not None
        assert 2 < wait <= 5 * (1 + module.JITTER)
        hook.answer = take
        await make_due(operator)
        assert await hooks.deliver() == 1
    assert len(set(hook.ids())) == 1
    assert hook.came[0][1] == hook.came[1][1]
    assert await state(operator) == (True, False, 2, None)


async def test_an_answer_without_end(operator: ManagementClient, pool: Pool, hook: Hook, event: QuotaEvent) -> None:
    """The body of an answer is not read: its status is enough."""
    hook.answer = never_end
    async with webhook(pool, hook.url) as hooks, asyncio.timeout(4):
        assert await hooks.deliver() == 1
    assert (await state(operator))[0]


async def test_a_refused_connection(pool: Pool, event: QuotaEvent) -> None:
    """A refused connection is a failure as any other."""
    async with webhook(pool, f"http://127.0.0.1:{free_port()}/hooks") as hooks:
        with capture_logs() as logs:
            assert await hooks.deliver() == 1
    assert [line["reason"] for line in logs] == ["connection"]
    assert_silent(logs)


async def test_an_untrusted_certificate(pool: Pool, event: QuotaEvent) -> None:
    """A receiver without a trusted certificate gets nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    async with (
        listening(Hook(), context) as hook,
        webhook(pool, hook.url.replace("http:", "https:")) as hooks,
    ):
        with capture_logs() as logs:
            assert await hooks.deliver() == 1
        assert (hook.came, [line["reason"] for line in logs]) == ([], ["tls"])


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 2OO OK\r\n\r\n", b"\x00" * 100, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10**5]
)
async def test_an_answer_that_is_not_http(pool: Pool, event: QuotaEvent, said: bytes) -> None:
    """An answer that is not HTTP is a failure as any other."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, webhook(pool, f"http://127.0.0.1:{port}/hooks") as hooks:
        with capture_logs() as logs:
            assert await hooks.deliver() == 1
    assert [line["reason"] for line in logs] in (["answer"], ["connection"])
    assert_silent(logs)


@pytest.mark.parametrize(
    "url", ["http://[::1/hooks", "http://" + "a" * 70 + ".example/hooks", "http://127.0.0.1:99999/"]
)
async def test_an_invalid_address(pool: Pool, event: QuotaEvent, url: str) -> None:
    """An invalid address that the settings accepted is a failure whose log names no address."""
    async with webhook(pool, url) as hooks:
        with capture_logs() as logs:
            assert await hooks.deliver() == 1
    assert len(logs) == 1
    assert_silent(logs)


async def test_a_credential_in_the_address(
    pool: Pool, hook: Hook, event: QuotaEvent, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is sent as Basic authentication, and is in no log."""
    hook.answer = refuse
    url = hook.url.replace("127.0.0.1", f"user:{PASSWORD}@127.0.0.1")
    async with webhook(pool, url) as hooks:
        with capture_logs() as logs:
            assert await hooks.deliver() == 1
        assert PASSWORD not in repr(vars(hooks)["_receiver"])
    assert hook.came[0][0]["authorization"] == "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    assert_silent(logs)
    assert PASSWORD not in "".join(capfd.readouterr())


async def test_growing_pauses_and_an_end(operator: ManagementClient, pool: Pool, hook: Hook, event: QuotaEvent) -> None:
    """Seconds, minutes, hours, never sooner; after the last it is given up, and the log says so."""
    hook.answer = refuse
    pauses = []
    async with webhook(pool, hook.url) as hooks:
        with capture_logs() as logs:
            for _ in module.BACK_OFF:
                assert await hooks.deliver() == 1
                pauses.append((await state(operator))[3] or 0)
                await make_due(operator)
            assert await hooks.deliver() == 1
            await make_due(operator)
            assert await hooks.deliver() == 0
        assert await state(operator) == (False, True, 8, None)
        hook.answer = take
        await operator.sql(documented("sql").partition("-- ")[2].partition("\n")[2])
        assert await hooks.deliver() == 1
    assert module.BACK_OFF == (5, 30, 120, 600, 3600, 21_600, 86_400)
    for pause, least in zip(pauses, module.BACK_OFF, strict=True):
        assert least - 3 < pause <= least * (1 + module.JITTER)
    assert [line["event"] for line in logs] == ["webhook_not_delivered"] * 7 + ["webhook_given_up"]
    assert len(set(hook.ids())) == 1
    assert_silent(logs)


async def test_a_worker_that_dies_while_it_delivers(
    operator: ManagementClient, pool: Pool, hook: Hook, event: QuotaEvent
) -> None:
    """Once its time is over another worker delivers the same message, under the same id."""
    hook.answer = hang
    async with webhook(pool, hook.url) as hooks, asyncio.timeout(10):
        dying = asyncio.create_task(hooks.deliver())
        await hook.entered.acquire()
        dying.cancel()
        await asyncio.wait({dying})
        assert await hooks.deliver() == 0
        hook.answer = take
        await make_due(operator)  # the end of its lease
        assert await hooks.deliver() == 1
    assert len(set(hook.ids())) == 1
    assert (await state(operator))[:3] == (True, False, 2)


async def test_postgresql_is_away(database: str, hook: Hook, event: QuotaEvent, postgres_server: Postgres) -> None:
    """Without PostgreSQL nothing is delivered; it counts as a failure, and deliveries go on afterwards."""
    watch = Watch()
    async with (
        open_pool(database, size=1, wait=1, statement_timeout=5) as pool,
        webhook_receiver(hook.url) as receiver,
    ):
        hooks = Webhook(PostgresQuotaEvents(pool), receiver, secret=SECRET, observer=watch)
        with stopped(postgres_server):
            assert await hooks.deliver() == 0
        assert sum(count for (store, _), count in watch.failures.items() if store == POSTGRESQL) == 1
        async with asyncio.timeout(20):
            assert await hooks.deliver() == 1
    assert len(hook.came) == 1
