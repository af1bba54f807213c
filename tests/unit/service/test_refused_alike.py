"""The cost of a request with a denied key does not reveal whether the key ever existed."""

from dataclasses import replace
from time import monotonic

import pytest

from extauthz.core.reason import Reason
from extauthz.service.directory import local_cache, negative_cache, tiers
from tests.unit.service.asking import back, end_refusals
from tests.unit.service.fakes import KEY, NEW_DIGEST, NOW, FakeService, open_house

REFUSED: dict[str, dict[str, float] | None] = {
    "unknown": None,
    "revoked": {"revoked_at": NOW},
    "disabled": {"disabled_at": NOW},
    "expired": {"expires_at": NOW},
}
ALL = pytest.mark.parametrize("why", REFUSED)


async def calls_of(fake_service: FakeService) -> list[int]:
    """How often Redis and PostgreSQL were asked for a key, and an organization."""
    return [
        fake_service.key_cache.finds,
        fake_service.keys.calls,
        fake_service.tenant_cache.finds,
        fake_service.tenants.calls,
    ]


async def costs(fake_service: FakeService, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Calls after each of some denials: two in one second, two in the next, one after the time of any record."""
    passed = 0.0
    for module in (negative_cache, tiers, local_cache):
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() + passed)
    counts = []
    for seconds in (0.0, 0.5, 1.0, 0.5, 200.0):
        passed += seconds
        fake_service.now += seconds
        assert (await fake_service.ask(patience=1e9)).reason is Reason.INVALID_CREDENTIALS
        counts.append(await calls_of(fake_service))
    return counts


@ALL
async def test_denied_keys_cost_the_same_calls(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Unknown, revoked, disabled, expired: at first, a moment later and later on, whether or not Redis has it."""
    async with open_house() as fake_service:
        ends = REFUSED[why]
        fake_service.keys.held = {} if ends is None else {NEW_DIGEST: replace(KEY, **ends)}  # type: ignore[arg-type]
        assert await costs(fake_service, monkeypatch) == [[n, n, 0, 0] for n in (1, 1, 2, 2, 3)]
        assert len(fake_service.lookup.keys.local.held) == (ends is not None)


async def test_a_key_that_expires_while_it_is_held() -> None:
    """From its end on it is looked up like any other denied key, not answered from the local cache."""
    async with open_house() as fake_service:
        fake_service.store(replace(KEY, expires_at=NOW + 10))
        assert (await fake_service.ask()).reason is Reason.ALLOW
        fake_service.now = NOW + 10
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS
        assert (fake_service.key_cache.finds, fake_service.keys.calls) == (2, 2)


async def test_denied_key_is_not_renewed() -> None:
    """A denied key does not count as a record in use, however often it is requested."""
    async with open_house() as fake_service:
        fake_service.store(replace(KEY, revoked_at=NOW))
        for _ in range(3):
            await fake_service.ask()
        fake_service.now += 118
        await fake_service.lookup.keys.renewal.renew_due()
        assert fake_service.keys.calls == 1


@ALL
async def test_it_works_at_once_when_it_is_good_again(why: str) -> None:
    """A created, enabled or prolonged key works with its message. A revocation is for good."""
    async with open_house() as fake_service:
        ends = REFUSED[why]
        fake_service.keys.held = {} if ends is None else {NEW_DIGEST: replace(KEY, **ends)}  # type: ignore[arg-type]
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS
        if why != "revoked":
            fake_service.change(KEY, *KEY.made_of)
        assert (await fake_service.ask()).reason is (Reason.INVALID_CREDENTIALS if why == "revoked" else Reason.ALLOW)


@pytest.mark.parametrize("where", ["process", "redis"])
async def test_while_postgresql_is_away(where: str) -> None:
    """A process that has a revocation denies as revoked, and an unknown key is 503."""
    async with open_house() as fake_service:
        if where == "process":
            fake_service.store(replace(KEY, revoked_at=NOW))
            await fake_service.ask()
            fake_service.key_cache.held.clear()
        else:
            fake_service.key_cache.held[NEW_DIGEST] = replace(KEY, revoked_at=NOW)
        end_refusals(fake_service.lookup.keys.local)  # its second is over
        await fake_service.lose(fake_service.postgresql)
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS
        fake_service.lookup.keys.local.held.drop(NEW_DIGEST)
        fake_service.key_cache.held.clear()
        assert (await fake_service.ask()).reason is Reason.AUTHENTICATION_UNAVAILABLE
        await back(fake_service)
        fake_service.keys.held.clear()
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS
