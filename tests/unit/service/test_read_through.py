"""Reads: one for all waiting checks, used if it includes every change, renewed before its end, stale for a while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

import pytest

from extauthz.core.changes import EVERYTHING, Change, EntityRef
from extauthz.core.credentials import Credential
from extauthz.core.decision import AUTHENTICATION_UNAVAILABLE, TOO_MANY_UNREAD, Allow
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL
from extauthz.core.reason import Reason
from extauthz.service.directory import invalidation, local_cache, negative_cache, read_through, store_query, tiers
from tests.unit.service.asking import FAR, KEY_ITSELF, ORGANIZATION, OTHER, asked_at, read
from tests.unit.service.fakes import KEY, KEY_FORMAT, NEW_DIGEST, NOW, SECRET, TENANT, FakeService, open_house


async def test_many_first_uses_are_one_query() -> None:
    """All checks that need a cold key at the same moment wait for the same answer."""
    async with open_house() as fake_service:
        gate = await asked_at(fake_service, "find")
        asking = [asyncio.create_task(fake_service.ask()) for _ in range(100)]
        await fake_service.keys.entered.acquire()
        gate.set()
        found = await asyncio.gather(*asking)
        assert {type(decision) for decision in found if decision.reason is not Reason.RATE_LIMITED} == {Allow}
        assert (fake_service.keys.calls, fake_service.tenants.calls) == (1, 0)


async def test_check_that_leaves_does_not_end_the_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that is cancelled, even the first, or times out leaves the others their answer."""
    monkeypatch.setattr(store_query, "TURN_TIMEOUT_SECONDS", 0.02)  # where the event loop is late
    async with open_house() as fake_service:
        gate = await asked_at(fake_service, "find")
        first = asyncio.create_task(fake_service.ask())
        await fake_service.keys.entered.acquire()
        others = [asyncio.create_task(fake_service.ask()) for _ in range(3)]
        assert await fake_service.ask(patience=0.01) == AUTHENTICATION_UNAVAILABLE
        first.cancel()
        await asyncio.wait({first})
        gate.set()
        assert {type(decision) for decision in await asyncio.gather(*others)} == {Allow}
        assert fake_service.keys.calls == 1
        assert fake_service.postgresql.up


async def test_a_failure_is_shared_and_not_remembered() -> None:
    """All waiting checks fail together, it is not repeated for them; it never becomes `no such key`."""
    async with open_house() as fake_service:
        fake_service.keys.error = StoreUnavailable(POSTGRESQL, "deadline")
        found = await asyncio.gather(*(fake_service.ask() for _ in range(20)))
        assert found == [AUTHENTICATION_UNAVAILABLE] * 20
        assert fake_service.keys.calls == 1
        assert len(fake_service.lookup.keys.local.refused) == 0
        fake_service.keys.error = None
        assert isinstance(await fake_service.ask(), Allow)


@pytest.mark.parametrize("path", ["/api/customers/7", "/api/vault/1"])
async def test_a_crowd_of_unknown_keys_is_a_few_queries(path: str) -> None:
    """A thousand unknown keys at once are all denied as unknown, and a valid key among them is not."""
    async with open_house() as fake_service:
        fake_service.keys.at_once = 500
        unknown = [f"Bearer {KEY_FORMAT.issue(number.to_bytes(20))}" for number in range(1000)]
        *found, good = await asyncio.gather(*(fake_service.ask(path, key) for key in (*unknown, f"Bearer {SECRET}")))
        assert {decision.reason for decision in found} == {Reason.INVALID_CREDENTIALS}
        assert isinstance(good, Allow)
        assert fake_service.keys.calls == 3


@pytest.mark.parametrize("path", ["/api/customers/7", "/api/vault/1"])
async def test_questions_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Beyond a number that memory is planned for, the answer is 429 and not 503; cached keys go on."""
    monkeypatch.setattr(tiers, "MAX_QUEUED_QUESTIONS", 3)
    async with open_house() as fake_service:
        await fake_service.ask()
        unknown = [f"Bearer {KEY_FORMAT.issue(number.to_bytes(20))}" for number in range(5)]
        found = await asyncio.gather(*(fake_service.ask(path, key) for key in unknown), fake_service.ask())
        assert [decision.reason for decision in found] == [
            *[Reason.INVALID_CREDENTIALS] * 3,
            *[Reason.RATE_LIMITED] * 2,
            Reason.ALLOW,
        ]
        assert found[3] == TOO_MANY_UNREAD
        assert fake_service.watch.failures == {(POSTGRESQL, "busy"): 2}
        assert fake_service.postgresql.up


@pytest.mark.parametrize("path", ["/api/customers/7", "/api/vault/1"])
async def test_waiting_for_a_turn_is_not_an_outage(path: str) -> None:
    """A check whose deadline passes while other keys are read is answered when its turn comes."""
    async with busy_house(path) as (fake_service, gate):
        late = asyncio.create_task(fake_service.ask(path, patience=0.01))
        await asyncio.wait({late}, timeout=0.05)
        assert not late.done()
        gate.set()
        assert isinstance(await late, Allow)
        assert fake_service.postgresql.up


@pytest.mark.parametrize("path", ["/api/customers/7", "/api/vault/1"])
async def test_a_turn_that_does_not_come(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """It is waited for some seconds, then the answer is 429: PostgreSQL is up, and the key may be valid. If PostgreSQL
    went away meanwhile, it is 503.
    """
    monkeypatch.setattr(store_query, "TURN_TIMEOUT_SECONDS", 0.02)
    async with busy_house(path) as (fake_service, _):
        assert await fake_service.ask(path, patience=0.01) == TOO_MANY_UNREAD
        await fake_service.lose(fake_service.postgresql)
        assert await fake_service.ask(path, patience=0.01) == AUTHENTICATION_UNAVAILABLE


@asynccontextmanager
async def busy_house(path: str) -> AsyncIterator[tuple[FakeService, asyncio.Event]]:
    """A FakeService in which all queries that may be under way read unknown keys, and wait at a gate."""
    async with open_house() as fake_service:
        fake_service.keys.at_once = 1
        gate = await asked_at(fake_service, "find")
        unknown = [f"Bearer {KEY_FORMAT.issue(number.to_bytes(20))}" for number in range(tiers.MAX_CONCURRENT_QUERIES)]
        asking = [asyncio.create_task(fake_service.ask(path, key)) for key in unknown]
        for _ in unknown:
            await fake_service.keys.entered.acquire()
        yield fake_service, gate
        gate.set()
        await asyncio.gather(*asking)


async def test_a_key_that_was_made_meanwhile_is_found() -> None:
    """A request after the message of a new key does not share an answer from before it."""
    async with open_house() as fake_service:
        del fake_service.keys.held[NEW_DIGEST]
        gate = await asked_at(fake_service, "find")
        before = asyncio.create_task(fake_service.ask())
        await fake_service.keys.entered.acquire()
        fake_service.change(KEY, KEY_ITSELF)
        after = asyncio.create_task(fake_service.ask())
        await asyncio.sleep(0)
        gate.set()
        assert (await before).reason is Reason.INVALID_CREDENTIALS
        assert isinstance(await after, Allow)


async def test_nothing_is_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads without waiting checks end with the service."""
    monkeypatch.setattr(store_query, "TURN_TIMEOUT_SECONDS", 0.02)  # where the event loop is late
    others = asyncio.all_tasks()
    async with open_house() as fake_service:
        await asked_at(fake_service, "find")
        assert await fake_service.ask(patience=0.01) == AUTHENTICATION_UNAVAILABLE
    assert asyncio.all_tasks() == others


@pytest.mark.parametrize("gate", ["find", "put"])
@pytest.mark.parametrize("thing", [KEY_ITSELF, ORGANIZATION, EntityRef("plan", TENANT.plan_id), EVERYTHING])
async def test_check_after_a_change_gets_the_new_record(gate: str, thing: EntityRef) -> None:
    """A check that joins a read from before a received change, or one still being shared, gets the present record."""
    async with open_house() as fake_service:
        opened = await asked_at(fake_service, gate)
        first = asyncio.create_task(fake_service.ask())
        await (fake_service.key_cache if gate == "put" else fake_service.keys).entered.acquire()
        after = replace(KEY, tenant=replace(TENANT, status="suspended"))
        if thing in (KEY_ITSELF, EVERYTHING):
            after = replace(after, revoked_at=NOW)
        fake_service.change(after, thing)
        second = asyncio.create_task(fake_service.ask())
        await asyncio.sleep(0)
        opened.set()
        await first
        refused = Reason.ORGANIZATION_SUSPENDED if after.revoked_at is None else Reason.INVALID_CREDENTIALS
        for decision in (await second, await fake_service.ask()):
            assert decision.reason is refused


async def test_a_record_that_changes_faster_than_it_is_read() -> None:
    """After some attempts the answer is busy, rather than an endless loop or an old record."""
    async with open_house() as fake_service:
        find = fake_service.keys.find

        async def changed_meanwhile(asked: list[Credential], now: float) -> object:
            found = await find(asked, now)
            fake_service.change(KEY, KEY_ITSELF)
            return found

        fake_service.keys.find = changed_meanwhile  # type: ignore[method-assign, assignment] # the same, but later
        assert await fake_service.ask() == AUTHENTICATION_UNAVAILABLE
        assert fake_service.keys.calls == read_through.READ_ATTEMPTS_MAX
        assert fake_service.postgresql.up


async def test_an_unknown_key_is_asked_for_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests for it cost one query a second, and it works as soon as any message arrives."""
    later = 0.0
    for module in (invalidation, negative_cache, local_cache):
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() + later)
    async with open_house() as fake_service:
        for _ in range(5):
            assert (await fake_service.ask("/api/customers", OTHER, patience=FAR)).reason is Reason.INVALID_CREDENTIALS
        assert fake_service.keys.calls == 1
        digest = KEY_FORMAT.digest(OTHER.removeprefix("Bearer ")).digests[0]
        fake_service.store(replace(KEY, digest=digest))
        later = 1.0
        assert isinstance(await fake_service.ask("/api/customers", OTHER, patience=FAR), Allow)
        fake_service.keys.held.clear()
        fake_service.invalidations.apply(Change(KEY_ITSELF, 8))
        assert (await fake_service.ask("/api/customers", OTHER, patience=FAR)).reason is Reason.INVALID_CREDENTIALS
        fake_service.change(replace(KEY, digest=digest), EntityRef("api_key", "a new one"))
        assert isinstance(await fake_service.ask("/api/customers", OTHER, patience=FAR), Allow)


async def test_unknown_keys_evict_no_record() -> None:
    """However many unknown keys are tried, the records of real ones stay, and so do the bounds."""
    async with open_house(refusals_max=50) as fake_service:
        await fake_service.ask()
        for start in range(0, 500, 100):
            await read(fake_service, *(f"{number:064x}" for number in range(start, start + 100)))
        assert (len(fake_service.lookup.keys.local.refused), len(fake_service.lookup.keys.local.held)) == (50, 1)
        asked = fake_service.keys.calls
        assert isinstance(await fake_service.ask(), Allow)
        assert fake_service.keys.calls == asked
