"""What it costs to ask with a key that is refused does not tell whether anybody ever had it."""

from dataclasses import replace
from time import monotonic

import pytest

from extauthz.core.reason import Reason
from extauthz.service import held, layers, local
from tests.unit.service.asking import back
from tests.unit.service.fakes import KEY, NEW_DIGEST, NOW, House, open_house

REFUSED: dict[str, dict[str, float] | None] = {
    "unknown": None,
    "revoked": {"revoked_at": NOW},
    "disabled": {"disabled_at": NOW},
    "expired": {"expires_at": NOW},
}
ALL = pytest.mark.parametrize("why", REFUSED)


async def calls_of(house: House) -> list[int]:
    """How often Redis and PostgreSQL were asked for a key, and an organization."""
    return [house.key_cache.finds, house.keys.calls, house.tenant_cache.finds, house.tenants.calls]


async def costs(house: House, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Calls after each of some refusals: two in one second, two in the next, one after the time of any record."""
    passed = 0.0
    for module in (held, layers, local):
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() + passed)
    counts = []
    for seconds in (0.0, 0.5, 1.0, 0.5, 200.0):
        passed += seconds
        house.now += seconds
        assert (await house.ask(patience=1e9)).reason is Reason.INVALID_CREDENTIALS
        counts.append(await calls_of(house))
    return counts


@ALL
async def test_it_costs_the_same_calls(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Unknown, revoked, disabled, expired: at first, a moment later and later on, whether or not Redis has it."""
    async with open_house() as house:
        ends = REFUSED[why]
        house.keys.held = {} if ends is None else {NEW_DIGEST: replace(KEY, **ends)}  # type: ignore[arg-type]
        assert await costs(house, monkeypatch) == [[n, n, 0, 0] for n in (1, 1, 2, 2, 3)]
        assert len(house.lookup.keys.local.held) == (ends is not None)


async def test_a_key_that_expires_while_it_is_held() -> None:
    """From its end on it is asked for like any other that is refused, not answered from what is held."""
    async with open_house() as house:
        house.store(replace(KEY, expires_at=NOW + 10))
        assert (await house.ask()).reason is Reason.ALLOW
        house.now = NOW + 10
        assert (await house.ask()).reason is Reason.INVALID_CREDENTIALS
        assert (house.key_cache.finds, house.keys.calls) == (2, 2)


async def test_it_is_not_read_anew_behind_the_checks() -> None:
    """A refused key that is asked for again and again is no record in use."""
    async with open_house() as house:
        house.store(replace(KEY, revoked_at=NOW))
        for _ in range(3):
            await house.ask()
        house.now += 118
        await house.lookup.keys.renewal.renew_due()
        assert house.keys.calls == 1


@ALL
async def test_it_works_at_once_when_it_is_good_again(why: str) -> None:
    """Created, enabled or prolonged: in force with the message that tells of it. Revoked is for good."""
    async with open_house() as house:
        ends = REFUSED[why]
        house.keys.held = {} if ends is None else {NEW_DIGEST: replace(KEY, **ends)}  # type: ignore[arg-type]
        assert (await house.ask()).reason is Reason.INVALID_CREDENTIALS
        if why != "revoked":
            house.change(KEY, *KEY.made_of)
        assert (await house.ask()).reason is (Reason.INVALID_CREDENTIALS if why == "revoked" else Reason.ALLOW)


@pytest.mark.parametrize("where", ["process", "redis"])
async def test_while_postgresql_is_away(where: str) -> None:
    """What is known to be revoked is refused as such by every process that can tell, and an unknown key is 503."""
    async with open_house() as house:
        if where == "process":
            house.store(replace(KEY, revoked_at=NOW))
            await house.ask()
            house.key_cache.held.clear()
        else:
            house.key_cache.held[NEW_DIGEST] = replace(KEY, revoked_at=NOW)
        house.lookup.keys.local.unknown = held.Unknown()  # its second is over
        await house.lose(house.postgresql)
        assert (await house.ask()).reason is Reason.INVALID_CREDENTIALS
        house.lookup.keys.local.held.drop(NEW_DIGEST)
        house.key_cache.held.clear()
        assert (await house.ask()).reason is Reason.AUTHENTICATION_UNAVAILABLE
        await back(house)
        house.keys.held.clear()
        assert (await house.ask()).reason is Reason.INVALID_CREDENTIALS
