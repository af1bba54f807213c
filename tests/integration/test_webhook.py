"""Webhooks to a real HTTP server: what is sent, how it is signed, each event by one of many workers."""

import asyncio
import base64
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.usage import PostgresUsage
from extauthz.core.usage import QuotaEvent
from extauthz.demo.ports import free_port, listeners
from extauthz.service.usage import webhooks as module
from tests.servers.charging_client import TODAY
from tests.servers.hook import (
    EVENT,
    SECRET,
    Hook,
    documented,
    listening,
    state,
    verified,
    webhook,
)
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.waiting import until


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with listening(Hook()) as listens:
        yield listens


@pytest.fixture
async def event(pool: Pool) -> QuotaEvent:
    """One event that was not delivered yet."""
    await PostgresUsage(pool).announce([EVENT])
    return EVENT


async def test_what_is_sent(operator: ManagementClient, pool: Pool, hook: Hook) -> None:
    """One JSON object with all that the event says, signed so that few lines verify it; once."""
    await operator.tenants.create_plan("gold", NO_LIMITS)
    organization = await operator.tenants.create_organization("Ümlaut & Co", "gold")
    await PostgresUsage(pool).announce([EVENT._replace(tenant_id=organization.id, quota="monthly")])
    async with webhook(pool, hook.url) as hooks:
        assert (await hooks.deliver(), await hooks.deliver()) == (1, 0)
    ((headers, body),) = hook.came
    (row,) = await operator.rows("SELECT id::text, at FROM quota_events")
    assert verified(SECRET, headers, body) == row["id"]
    assert (headers["content-type"], headers["user-agent"]) == ("application/json", "extauthz")
    sent = json.loads(body)
    assert datetime.fromisoformat(sent["timestamp"]) == row["at"].astimezone(UTC)
    assert sent == {
        "type": "quota.threshold",
        "timestamp": sent["timestamp"],
        "data": {
            "organization_id": organization.id,
            "organization": "Ümlaut & Co",
            "quota": "monthly",
            "window_start": "2027-03-31",
            "threshold": 80,
            "used": 8001,
            "limit": 10000,
        },
    }
    assert await state(operator) == (True, False, 1, None)


async def test_an_organization_that_is_gone(pool: Pool, hook: Hook, event: QuotaEvent) -> None:
    """Its name is null, its id stays."""
    async with webhook(pool, hook.url) as hooks:
        assert await hooks.deliver() == 1
    data = json.loads(hook.came[0][1])["data"]
    assert (data["organization_id"], data["organization"]) == (event.tenant_id, None)


async def test_a_secret_as_libraries_write_it(pool: Pool, hook: Hook, event: QuotaEvent) -> None:
    """`whsec_` and base64 is the key in base64; where no base64 follows, nothing is ever signed with another key."""
    async with webhook(pool, hook.url, secret=b"whsec_" + base64.b64encode(b"k" * 32)) as hooks:
        assert await hooks.deliver() == 1
    assert verified(b"k" * 32, *hook.came[0])
    with pytest.raises(ValueError, match=r"base64|padding"):
        async with webhook(pool, hook.url, secret=b"whsec_ is no base64 but a text of 32 bytes"):
            pass


async def test_many_workers(operator: ManagementClient, pool: Pool, hook: Hook) -> None:
    """Each event is delivered by one of them."""
    events = [EVENT._replace(quota=quota, threshold=n) for quota in ("daily", "monthly") for n in (80, 90, 100)]
    await PostgresUsage(pool).announce(events * 5)
    many = [event._replace(window_start=TODAY.replace(day=day)) for event in events for day in range(1, 6)]
    await PostgresUsage(pool).announce(many)
    async with webhook(pool, hook.url) as hooks:
        while sum(await asyncio.gather(*(hooks.deliver() for _ in range(3)))):
            pass
    ids = [row["id"] for row in await operator.rows("SELECT id::text FROM quota_events WHERE delivered_at IS NOT NULL")]
    assert len(ids) == 36
    assert sorted(hook.ids()) == sorted(ids)


async def test_the_documented_receiver(operator: ManagementClient, pool: Pool, tmp_path: Path) -> None:
    """The receiver that the page shows accepts an event, once however often it comes, and nothing of other senders."""
    await operator.tenants.create_plan("gold", NO_LIMITS)
    organization = await operator.tenants.create_organization("Initech", "gold")
    await PostgresUsage(pool).announce([EVENT._replace(tenant_id=organization.id)])
    (tmp_path / "hook.py").write_text(documented("python"))
    secret, port = b"whsec_" + base64.b64encode(b"k" * 32), free_port()
    command = sys.executable, str(tmp_path / "hook.py"), str(port)
    environment = {"EXTAUTHZ_WEBHOOK_SECRET": secret.decode()}
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL, env=environment)
    assert process.stdout is not None
    url = f"http://127.0.0.1:{port}/extauthz"
    try:
        async with asyncio.timeout(20), webhook(pool, url) as others, webhook(pool, url, secret=secret) as ours:
            await until(lambda: bool(listeners(port)))
            with capture_logs() as logs:
                assert await others.deliver() == 1
            assert [line["reason"] for line in logs] == ["status 401"]
            for _ in range(2):
                await operator.sql("UPDATE quota_events SET delivered_at = NULL, next_attempt_at = NULL")
                assert await ours.deliver() == 1
                assert (await state(operator))[0]
    finally:
        process.kill()
        said, _ = await process.communicate()
    assert said == b"Initech: 80 % of the daily quota\n"


async def test_announced_events_are_delivered(
    operator: ManagementClient, pool: Pool, hook: Hook, event: QuotaEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that is announced is delivered without a further call."""
    monkeypatch.setattr(module, "LOOK_INTERVAL_SECONDS", 0.01)
    async with webhook(pool, hook.url) as hooks, asyncio.timeout(10):
        working = asyncio.create_task(hooks.keep_delivering())
        await hook.entered.acquire()
        await PostgresUsage(pool).announce([event._replace(threshold=90)])
        await hook.entered.acquire()
        working.cancel()
        await asyncio.wait({working})
    assert [json.loads(body)["data"]["threshold"] for _, body in hook.came] == [80, 90]
