"""Late answers, other clocks and Redis never bring an older record back."""

import asyncio
from dataclasses import replace
from time import monotonic

import pytest

from extauthz.core.changes import Change
from extauthz.core.decision import AUTHENTICATION_UNAVAILABLE, TOO_MANY_UNREAD, Allow
from extauthz.core.reason import Reason
from extauthz.service.directory import invalidation, local_cache, negative_cache, store_query, tiers
from tests.unit.service.asking import FAR, KEY_ITSELF, ORGANIZATION, asked_at, end_refusals
from tests.unit.service.fakes import KEY, NEW_DIGEST, NOW, TENANT, open_house


async def test_slow_renewal_does_not_replace_a_younger_record() -> None:
    """Of two reads that end in the wrong order, without any message, the younger one stays."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.key_cache.held.clear()
        fake_service.now += 118
        gate = await asked_at(fake_service, "find")
        renewal = asyncio.create_task(fake_service.lookup.keys.renewal.renew_due())
        await fake_service.keys.entered.acquire()
        del fake_service.keys.gates["find"]
        fake_service.change(replace(KEY, revoked_at=NOW))
        fake_service.freshness.flowing(True)  # messages were lost for a while: cached records have to be confirmed
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS
        gate.set()
        await renewal
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS


async def test_a_low_number_is_accepted_after_the_message() -> None:
    """A long transaction keeps numbers low: a record read after the message is accepted all the same."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.store(replace(KEY, permissions={}))
        fake_service.invalidations.apply(Change(KEY_ITSELF, 1000))
        fake_service.invalidations.apply(Change(ORGANIZATION, 1000))
        for _ in range(3):
            assert (await fake_service.ask()).reason is Reason.PERMISSION_DENIED
        assert (fake_service.keys.calls, fake_service.tenants.calls) == (2, 0)


async def test_a_key_from_redis_does_not_lend_its_organization() -> None:
    """A key of another process brings no organization, which may have been suspended since."""
    async with open_house() as fake_service:
        fake_service.key_cache.held[NEW_DIGEST] = KEY
        fake_service.tenants.held[TENANT.id] = replace(TENANT, status="suspended")
        assert (await fake_service.ask()).reason is Reason.ORGANIZATION_SUSPENDED
        assert (fake_service.keys.calls, fake_service.tenants.calls) == (0, 1)


async def test_another_machines_clock_is_ahead() -> None:
    """A record from the future is not younger: it ends by the local clock, and changes are effective as ever."""
    async with open_house() as fake_service:
        ahead = replace(KEY, loaded_at=NOW + 50, tenant=replace(TENANT, loaded_at=NOW + 50))
        fake_service.key_cache.held[NEW_DIGEST], fake_service.tenant_cache.held[TENANT.id] = ahead, ahead.tenant
        assert isinstance(await fake_service.ask(), Allow)
        fake_service.change(replace(KEY, tenant=replace(TENANT, status="suspended")), ORGANIZATION)
        assert (await fake_service.ask()).reason is Reason.ORGANIZATION_SUSPENDED
        fake_service.key_cache.held.clear()
        fake_service.now = NOW + 120.5
        await fake_service.ask()
        assert fake_service.keys.calls == 1


async def test_older_record_in_redis_is_not_used() -> None:
    """A process without messages that read a revocation asks PostgreSQL when Redis has an older record."""
    async with open_house() as fake_service:
        fake_service.change(replace(KEY, revoked_at=NOW))
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS
        fake_service.key_cache.held[NEW_DIGEST] = KEY  # Redis lost its fence, or got it late
        fake_service.freshness.flowing(True)
        end_refusals(fake_service.lookup.keys.local)  # its second is over
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS
        assert fake_service.keys.calls == 2
        fake_service.key_cache.held[NEW_DIGEST] = replace(
            KEY, loaded_at=fake_service.now + 118
        )  # by a clock that is ahead
        end_refusals(fake_service.lookup.keys.local)
        fake_service.now += 118
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS
        assert fake_service.keys.calls == 3


async def test_a_step_of_the_clock_prolongs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes back an hour: a record ends after its seconds all the same, while PostgreSQL is away too."""
    later = 0.0
    monkeypatch.setattr(local_cache, "monotonic", lambda: monotonic() + later)
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.key_cache.held.clear()
        fake_service.now -= 3600
        later = 119
        assert isinstance(await fake_service.ask(patience=2000), Allow)
        assert fake_service.keys.calls == 1
        later = 120.5
        await fake_service.ask(patience=2000)
        assert fake_service.keys.calls == 2
        await fake_service.lose(fake_service.postgresql)
        fake_service.key_cache.held.clear()
        later += 719
        assert isinstance(await fake_service.ask(patience=2000), Allow)
        later += 2
        assert await fake_service.ask(patience=2000) == AUTHENTICATION_UNAVAILABLE


@pytest.mark.parametrize("ours", ["busy", "deadline"])
async def test_slow_worker_prolongs_nothing(monkeypatch: pytest.MonkeyPatch, ours: str) -> None:
    """While PostgreSQL is up, a record whose confirmation is late is good to its end and no longer."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.key_cache.held.clear()
        await asked_at(fake_service, "find")
        monkeypatch.setattr(store_query, "TURN_TIMEOUT_SECONDS", 0.02)  # where the event loop is late
        monkeypatch.setattr(tiers, "QUERY_TIMEOUT_SECONDS", 0.02)
        if ours == "busy":
            monkeypatch.setattr(tiers, "MAX_QUEUED_QUESTIONS", 0)
        fake_service.freshness.flowing(True)
        fake_service.now = NOW + 29  # the organization's end is near
        assert isinstance(await fake_service.ask(patience=0.05), Allow)
        assert fake_service.postgresql.up
        fake_service.now = NOW + 121
        assert await fake_service.ask(patience=0.05) == (
            TOO_MANY_UNREAD if ours == "busy" else AUTHENTICATION_UNAVAILABLE
        )
        assert fake_service.postgresql.up
        await fake_service.lose(fake_service.postgresql)
        assert isinstance(await fake_service.ask(), Allow)


async def test_cached_records_are_confirmed_without_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service without messages asks Redis again after five seconds, and serves its copies until then."""
    later = 0.0
    for module in (invalidation, negative_cache, local_cache):
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() + later)
    async with open_house() as fake_service:
        fake_service.freshness.flowing(False)
        await fake_service.ask()
        fake_service.store(replace(KEY, revoked_at=NOW, version=8))
        fake_service.key_cache.held.clear()
        later = invalidation.UNCONFIRMED_SECONDS - 1
        assert isinstance(await fake_service.ask(patience=FAR), Allow)
        later = invalidation.UNCONFIRMED_SECONDS + 1
        assert (await fake_service.ask(patience=FAR)).reason is Reason.INVALID_CREDENTIALS


async def test_cached_records_are_confirmed_once_messages_return() -> None:
    """When messages arrive again, older records are read once more, and then kept as before."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.freshness.flowing(False)
        fake_service.freshness.flowing(True)
        await fake_service.ask()
        await fake_service.ask()
        assert fake_service.watch.reads["api_key", "redis"] == 1
        assert fake_service.watch.reads["api_key", "process"] == 1
