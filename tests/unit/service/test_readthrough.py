"""Readings: one for all who wait, believed if it knows of every change, renewed before its end, stale for a while."""

import asyncio
from dataclasses import replace
from time import monotonic

import pytest

from extauthz.core.changes import EVERYTHING, Change, Thing
from extauthz.core.credentials import Credential
from extauthz.core.decision import AUTHENTICATION_UNAVAILABLE, Allow
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.ports import POSTGRESQL
from extauthz.core.reason import Reason
from extauthz.service import fences, held, readthrough
from tests.unit.service.fakes import KEY, KEY_FORMAT, NEW_DIGEST, NOW, TENANT, House, open_house

KEY_ITSELF, ORGANIZATION = Thing("api_key", KEY.id), Thing("organization", TENANT.id)
OTHER = f"Bearer {KEY_FORMAT.issue(bytes(20))}"
FAR = 60.0


async def asked_at(house: House, gate: str) -> asyncio.Event:
    """Makes PostgreSQL (`find`) or Redis (`put`) wait before it answers, or writes, until the event is set."""
    store = house.key_cache if gate == "put" else house.keys
    store.gates[gate] = asyncio.Event()
    return store.gates[gate]


async def read(house: House, *digests: str) -> list[ApiKey | None]:
    """Reads many keys at once, as checks do."""
    keys = house.lookup.keys
    return list(
        await asyncio.gather(*(keys.read(Credential((digest,)), house.now, monotonic() + FAR) for digest in digests))
    )


def many(house: House, count: int) -> list[str]:
    """Stores keys; their digests."""
    digests = [f"{number:064x}" for number in range(count)]
    for digest in digests:
        house.keys.held[digest] = replace(KEY, id=digest, digest=digest)
    return digests


async def back(house: House) -> None:
    """PostgreSQL is there again, and known to be."""
    house.away.clear()
    async with asyncio.timeout(5):
        await house.watch.back.wait()


# One reading for all.


async def test_many_first_uses_are_one_query() -> None:
    """Everybody who wants a cold key at the same moment waits for the same answer."""
    async with open_house() as house:
        gate = await asked_at(house, "find")
        asking = [asyncio.create_task(house.ask()) for _ in range(100)]
        await house.keys.entered.acquire()
        gate.set()
        found = await asyncio.gather(*asking)
        assert {type(decision) for decision in found if decision.reason is not Reason.RATE_LIMITED} == {Allow}
        assert (house.keys.calls, house.tenants.calls) == (1, 0)


async def test_who_leaves_takes_nobody_along() -> None:
    """A caller that is cancelled, even the first, and one whose time runs out leave the others their answer."""
    async with open_house() as house:
        gate = await asked_at(house, "find")
        first = asyncio.create_task(house.ask())
        await house.keys.entered.acquire()
        others = [asyncio.create_task(house.ask()) for _ in range(3)]
        assert await house.ask(patience=0.01) == AUTHENTICATION_UNAVAILABLE
        first.cancel()
        await asyncio.wait({first})
        gate.set()
        assert {type(decision) for decision in await asyncio.gather(*others)} == {Allow}
        assert house.keys.calls == 1
        assert house.postgresql.up


async def test_a_failure_is_shared_and_not_remembered() -> None:
    """All who waited hear of it, nobody asks again for them; it never becomes `no such key`."""
    async with open_house() as house:
        house.keys.error = StoreUnavailable(POSTGRESQL, "deadline")
        found = await asyncio.gather(*(house.ask() for _ in range(20)))
        assert found == [AUTHENTICATION_UNAVAILABLE] * 20
        assert house.keys.calls == 1
        assert len(house.lookup.keys.unknown) == 0
        house.keys.error = None
        assert isinstance(await house.ask(), Allow)


async def test_readings_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of different unknown keys is refused beyond a number, told as `busy`; known keys go on."""
    monkeypatch.setattr(readthrough, "READINGS_MAX", 3)
    async with open_house() as house:
        await house.ask()
        gate = await asked_at(house, "find")
        flood = asyncio.gather(*(read(house, f"{number:064x}") for number in range(5)), return_exceptions=True)
        await house.keys.entered.acquire()
        assert isinstance(await house.ask(), Allow)
        gate.set()
        assert [type(found) for found in await flood] == [list] * 3 + [StoreUnavailable] * 2
        assert house.watch.failures == {(POSTGRESQL, "busy"): 2}
        assert house.postgresql.up


async def test_nothing_is_left_running() -> None:
    """Readings that nobody waits for any more end with the service."""
    others = asyncio.all_tasks()
    async with open_house() as house:
        await asked_at(house, "find")
        assert await house.ask(patience=0.01) == AUTHENTICATION_UNAVAILABLE
    assert asyncio.all_tasks() == others


# Changes.


@pytest.mark.parametrize("gate", ["find", "put"])
@pytest.mark.parametrize("thing", [KEY_ITSELF, ORGANIZATION, Thing("plan", TENANT.plan_id), EVERYTHING])
async def test_who_asks_after_a_change_is_not_answered_from_before(gate: str, thing: Thing) -> None:
    """Whoever joins a reading that began before a change was heard, or is still being shared, gets what holds now."""
    async with open_house() as house:
        opened = await asked_at(house, gate)
        first = asyncio.create_task(house.ask())
        await (house.key_cache if gate == "put" else house.keys).entered.acquire()
        after = replace(KEY, tenant=replace(TENANT, status="suspended"))
        if thing in (KEY_ITSELF, EVERYTHING):
            after = replace(after, revoked_at=NOW)
        house.change(after, thing)
        second = asyncio.create_task(house.ask())
        await asyncio.sleep(0)
        opened.set()
        await first
        refused = Reason.ORGANIZATION_SUSPENDED if after.revoked_at is None else Reason.INVALID_CREDENTIALS
        for decision in (await second, await house.ask()):
            assert decision.reason is refused


async def test_a_renewal_that_was_slow_does_not_put_the_past_back() -> None:
    """Two readings that end in the wrong order, without any message: the younger one stays."""
    async with open_house() as house:
        await house.ask()
        house.key_cache.held.clear()
        house.now += 118
        gate = await asked_at(house, "find")
        renewal = asyncio.create_task(house.lookup.keys.renew_due())
        await house.keys.entered.acquire()
        del house.keys.gates["find"]
        house.change(replace(KEY, revoked_at=NOW))
        house.belief.flowing(True)  # messages were lost for a while: what is held has to be confirmed
        assert (await house.ask()).reason is Reason.INVALID_CREDENTIALS
        gate.set()
        await renewal
        assert (await house.ask()).reason is Reason.INVALID_CREDENTIALS


async def test_a_low_number_is_believed_after_the_message() -> None:
    """While a transaction stays open for long, numbers stay low: what we read after the message counts all the same."""
    async with open_house() as house:
        await house.ask()
        house.store(replace(KEY, permissions={}))
        house.fences.hear(Change(KEY_ITSELF, 1000))
        house.fences.hear(Change(ORGANIZATION, 1000))
        for _ in range(3):
            assert (await house.ask()).reason is Reason.PERMISSION_DENIED
        assert (house.keys.calls, house.tenants.calls) == (2, 0)


async def test_a_record_that_changes_faster_than_it_is_read() -> None:
    """After some attempts: busy, for this once, rather than a hunt without end or an old answer."""
    async with open_house() as house:
        find = house.keys.find

        async def changed_meanwhile(asked: list[Credential], now: float) -> object:
            found = await find(asked, now)
            house.change(KEY, KEY_ITSELF)
            return found

        house.keys.find = changed_meanwhile  # type: ignore[method-assign, assignment] # the same, but later
        assert await house.ask() == AUTHENTICATION_UNAVAILABLE
        assert house.keys.calls == readthrough.CHANGED_MEANWHILE
        assert house.postgresql.up


async def test_a_key_from_redis_does_not_lend_its_organization() -> None:
    """What another process read is asked for its key alone: the organization in it may have been suspended since."""
    async with open_house() as house:
        house.key_cache.held[NEW_DIGEST] = KEY
        house.tenants.held[TENANT.id] = replace(TENANT, status="suspended")
        assert (await house.ask()).reason is Reason.ORGANIZATION_SUSPENDED
        assert (house.keys.calls, house.tenants.calls) == (0, 1)


async def test_another_machines_clock_is_ahead() -> None:
    """A record from the future is no younger for it: it ends by our clock, and changes are effective as ever."""
    async with open_house() as house:
        ahead = replace(KEY, loaded_at=NOW + 50, tenant=replace(TENANT, loaded_at=NOW + 50))
        house.key_cache.held[NEW_DIGEST], house.tenant_cache.held[TENANT.id] = ahead, ahead.tenant
        assert isinstance(await house.ask(), Allow)
        house.change(replace(KEY, tenant=replace(TENANT, status="suspended")), ORGANIZATION)
        assert (await house.ask()).reason is Reason.ORGANIZATION_SUSPENDED
        house.key_cache.held.clear()
        house.now = NOW + 120.5
        await house.ask()
        assert house.keys.calls == 1


async def test_redis_does_not_put_the_past_back() -> None:
    """Who read a revocation from PostgreSQL, hears nothing, and finds an older record in Redis, asks PostgreSQL."""
    async with open_house() as house:
        house.change(replace(KEY, revoked_at=NOW))
        assert (await house.ask()).reason is Reason.INVALID_CREDENTIALS
        house.key_cache.held[NEW_DIGEST] = KEY  # Redis lost what it was told, or was told late
        house.belief.flowing(True)
        assert (await house.ask()).reason is Reason.INVALID_CREDENTIALS
        assert house.keys.calls == 2
        house.key_cache.held[NEW_DIGEST] = replace(KEY, loaded_at=house.now + 118)  # by a clock that is ahead
        house.now += 118
        await house.lookup.keys.renew_due()
        assert house.keys.calls == 3


async def test_a_step_of_the_clock_prolongs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes back an hour: a record ends after its seconds all the same, while PostgreSQL is away too."""
    later = 0.0
    monkeypatch.setattr(readthrough, "monotonic", lambda: monotonic() + later)
    async with open_house() as house:
        await house.ask()
        house.key_cache.held.clear()
        house.now -= 3600
        later = 119
        assert isinstance(await house.ask(patience=2000), Allow)
        assert house.keys.calls == 1
        later = 120.5
        await house.ask(patience=2000)
        assert house.keys.calls == 2
        await house.lose(house.postgresql)
        house.key_cache.held.clear()
        later += 719
        assert isinstance(await house.ask(patience=2000), Allow)
        later += 2
        assert await house.ask(patience=2000) == AUTHENTICATION_UNAVAILABLE


@pytest.mark.parametrize("ours", ["busy", "deadline"])
async def test_our_own_slowness_prolongs_nothing(monkeypatch: pytest.MonkeyPatch, ours: str) -> None:
    """While PostgreSQL is there, a record that nobody had the time to confirm is good to its end and no longer."""
    async with open_house() as house:
        await house.ask()
        house.key_cache.held.clear()
        await asked_at(house, "find")
        if ours == "busy":
            monkeypatch.setattr(readthrough, "READINGS_MAX", 0)
        house.belief.flowing(True)
        house.now = NOW + 29  # the organization's end is near
        assert isinstance(await house.ask(patience=0.05), Allow)
        assert house.postgresql.up
        house.now = NOW + 121
        assert await house.ask(patience=0.05) == AUTHENTICATION_UNAVAILABLE
        assert house.postgresql.up
        await house.lose(house.postgresql)
        assert isinstance(await house.ask(), Allow)


# Without messages.


async def test_what_is_held_is_confirmed_where_no_message_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that hears nothing asks Redis anew after five seconds, and believes what it holds until then."""
    later = 0.0
    for module in (fences, readthrough):
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() + later)
    async with open_house() as house:
        house.belief.flowing(False)
        await house.ask()
        house.key_cache.held[NEW_DIGEST] = replace(KEY, revoked_at=NOW, version=8)
        later = fences.UNHEARD - 1
        assert isinstance(await house.ask(patience=FAR), Allow)
        later = fences.UNHEARD + 1
        assert (await house.ask(patience=FAR)).reason is Reason.INVALID_CREDENTIALS


async def test_what_was_held_while_messages_were_lost_is_confirmed_once() -> None:
    """From the moment they arrive again, what is older is asked for once more, and then held as before."""
    async with open_house() as house:
        await house.ask()
        house.belief.flowing(False)
        house.belief.flowing(True)
        await house.ask()
        await house.ask()
        assert house.watch.reads["api_key", "redis"] == 1
        assert house.watch.reads["api_key", "process"] == 1


# Unknown keys.


async def test_an_unknown_key_is_asked_for_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for again and again it costs one query a second, and is known as soon as a message tells of anything."""
    later = 0.0
    for module in (fences, held, readthrough):
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() + later)
    async with open_house() as house:
        for _ in range(5):
            assert (await house.ask("/api/customers", OTHER, patience=FAR)).reason is Reason.INVALID_CREDENTIALS
        assert house.keys.calls == 1
        digest = KEY_FORMAT.digest(OTHER.removeprefix("Bearer ")).digests[0]
        house.store(replace(KEY, digest=digest))
        later = 1.0
        assert isinstance(await house.ask("/api/customers", OTHER, patience=FAR), Allow)
        house.keys.held.clear()
        house.fences.hear(Change(KEY_ITSELF, 8))
        assert (await house.ask("/api/customers", OTHER, patience=FAR)).reason is Reason.INVALID_CREDENTIALS
        house.change(replace(KEY, digest=digest), Thing("api_key", "a new one"))
        assert isinstance(await house.ask("/api/customers", OTHER, patience=FAR), Allow)


async def test_random_keys_push_nobody_out() -> None:
    """However many keys are tried that nobody has, what is held of real ones stays, and so do the limits."""
    async with open_house() as house:
        await house.ask()
        house.lookup.keys.unknown = held.Unknown(at_most=50)
        for start in range(0, 500, 100):
            await read(house, *(f"{number:064x}" for number in range(start, start + 100)))
        assert (len(house.lookup.keys.unknown), len(house.lookup.keys.held)) == (50, 1)
        asked = house.keys.calls
        assert isinstance(await house.ask(), Allow)
        assert house.keys.calls == asked


# Renewal, and what is left of a record while PostgreSQL is away.


async def test_records_in_use_are_renewed_together() -> None:
    """Before they end, in one query; who was not used again is left alone; steady traffic never waits."""
    async with open_house() as house:
        digests = many(house, 40)
        await read(house, *digests)
        house.key_cache.held.clear()
        house.now += 118.2
        await house.lookup.keys.renew_due()
        assert sorted(each.digests[0] for each in house.keys.asked[-1]) == digests
        asked = len(house.keys.asked)
        house.now += 10  # beyond the end of the first records
        for digest in digests[:30]:
            assert house.lookup.keys.lookup(Credential((digest,)), house.now) is not None
        house.key_cache.held.clear()
        house.now += 108.2
        await house.lookup.keys.renew_due()
        assert sorted(each.digests[0] for each in house.keys.asked[-1]) == digests[:30]
        assert len(house.keys.asked) == asked + 1


async def test_renewal_is_spread() -> None:
    """Records that were read at the same moment do not come due at the same moment."""
    async with open_house() as house:
        await read(house, *many(house, 300))
        house.key_cache.held.clear()
        first, last = (120 * share for share in (readthrough.RENEW_FROM, readthrough.RENEW_TO))
        house.now += first - 1
        house.keys.asked.clear()
        await house.lookup.keys.renew_due()
        assert house.keys.asked == []
        batches: list[int] = []
        for _ in range(int(last - first) + 3):
            house.now += 1
            house.keys.asked.clear()
            await house.lookup.keys.renew_due()
            batches += [len(asked) for asked in house.keys.asked]
        assert sum(batches) == 300
        assert max(batches) < 60


async def test_renewal_takes_what_another_process_read() -> None:
    """Where Redis has a younger record, PostgreSQL is not asked."""
    async with open_house() as house:
        await house.ask()
        house.now += 118
        house.key_cache.held[NEW_DIGEST] = replace(KEY, loaded_at=house.now, permissions={})
        await house.lookup.keys.renew_due()
        assert house.keys.calls == 1
        assert (await house.ask()).reason is Reason.PERMISSION_DENIED


async def test_a_key_that_is_gone_is_gone_at_its_renewal() -> None:
    """Renewal finds a deletion that nobody told of, and a revocation likewise."""
    async with open_house() as house:
        await read(house, *many(house, 2))
        house.key_cache.held.clear()
        house.keys.held = {"0".zfill(64): replace(KEY, revoked_at=NOW, digest="0".zfill(64))}
        house.now += 118
        await house.lookup.keys.renew_due()
        revoked, gone = await read(house, "0".zfill(64), "1".zfill(64))
        assert revoked is not None
        assert revoked.revoked_at == NOW
        assert gone is None


async def test_postgresql_away_for_long() -> None:
    """A known key passes until its time and the time of staleness are over, and not a moment longer; then as ever."""
    async with open_house() as house:
        await house.ask()
        house.key_cache.held.clear()
        await house.lose(house.postgresql)
        for seconds in (1, 118, 119, 121, 400, 719.9):
            house.now = house.limits.now = NOW + seconds
            await house.lookup.keys.renew_due()
            assert isinstance(await house.ask(now=house.now), Allow)
        house.now = NOW + 720.1
        assert await house.ask(now=house.now) == AUTHENTICATION_UNAVAILABLE
        assert house.keys.calls == 1
        await back(house)
        assert isinstance(await house.ask(), Allow)


async def test_a_renewal_that_failed_is_made_up_for() -> None:
    """When PostgreSQL is back before the record's end, the next request finds it renewed."""
    async with open_house() as house:
        await house.ask()
        house.key_cache.held.clear()
        await house.lose(house.postgresql)
        house.now += 115
        await house.lookup.keys.renew_due()
        await back(house)
        await house.lookup.keys.renew_due()
        assert house.keys.calls == 1
        house.now += 4
        await house.lookup.keys.renew_due()
        assert house.keys.calls == 2
        house.now += 100
        await house.ask()
        assert house.watch.reads["api_key", None] == 1


@pytest.mark.parametrize("end", [{"revoked_at": NOW}, {"disabled_at": NOW}, {"expires_at": NOW + 300}])
async def test_staleness_admits_no_key_that_has_ended(end: dict[str, float]) -> None:
    """Revoked, disabled or expired stays so while PostgreSQL is away; expiry counts to the second."""
    async with open_house() as house:
        house.store(replace(KEY, **end))  # type: ignore[arg-type] # only times are changed
        await house.ask()
        house.key_cache.held.clear()
        await house.lose(house.postgresql)
        found = [(await house.ask(now=NOW + seconds)).reason for seconds in (299.9, 300)]
        assert found[1] is Reason.INVALID_CREDENTIALS
        assert found[0] is (Reason.ALLOW if "expires_at" in end else Reason.INVALID_CREDENTIALS)


@pytest.mark.parametrize("thing", [KEY_ITSELF, ORGANIZATION])
async def test_staleness_ends_with_a_change(thing: Thing) -> None:
    """Who was heard to have changed is not served from before, even where nobody can say what changed."""
    async with open_house() as house:
        await house.ask()
        await house.lose(house.postgresql)
        house.fences.hear(Change(thing, 8))
        assert await house.ask() == AUTHENTICATION_UNAVAILABLE
