"""Whatever ends a record that is in use ends one that is packed: changes, epochs, lost messages, time."""

from dataclasses import replace
from time import monotonic

import pytest

from extauthz.core.changes import EVERYTHING, Change, Thing
from extauthz.core.decision import AUTHENTICATION_UNAVAILABLE, Allow
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits
from extauthz.core.reason import Reason
from extauthz.service import fences, held, local
from tests.unit.service.asking import FAR, KEY_ITSELF, ORGANIZATION, pack_all
from tests.unit.service.fakes import KEY, NOW, TENANT, House, open_house

PLAN = Thing("plan", TENANT.plan_id)
SUSPENDED = replace(KEY, tenant=replace(TENANT, status="suspended"))
USED_UP = replace(KEY, tenant=replace(TENANT, limits=Limits(daily_quota=0)))


def pack(house: House) -> None:
    """Packs all that the process holds."""
    for records in (house.lookup.keys, house.lookup.tenants):
        assert records is not None
        pack_all(records.local)
        assert len(records.local.held) > 0
        assert not records.local.held._entries


async def test_a_packed_record_answers() -> None:
    """No layer below is asked for it, and a use of it counts as one."""
    async with open_house() as house:
        await house.ask()
        for _ in range(3):
            pack(house)
            assert isinstance(await house.ask(), Allow)
        assert (house.key_cache.finds, house.keys.calls) == (1, 1)
        assert house.watch.reads["api_key", "process"] == 3
        key = house.lookup.keys.local.held._entries.popitem()[1]
        assert key.used_at == house.now


@pytest.mark.parametrize(
    ("after", "thing", "reason"),
    [
        (replace(KEY, revoked_at=NOW), KEY_ITSELF, Reason.INVALID_CREDENTIALS),
        (replace(KEY, disabled_at=NOW), KEY_ITSELF, Reason.INVALID_CREDENTIALS),
        (replace(KEY, permissions={}), KEY_ITSELF, Reason.PERMISSION_DENIED),
        (SUSPENDED, ORGANIZATION, Reason.ORGANIZATION_SUSPENDED),
        (USED_UP, PLAN, Reason.COST_EXCEEDS_LIMIT),
        (replace(KEY, revoked_at=NOW), EVERYTHING, Reason.INVALID_CREDENTIALS),
    ],
)
@pytest.mark.parametrize("packed", ["before", "after", "before another"])
async def test_a_change_ends_what_is_packed(after: ApiKey, thing: Thing, reason: Reason, packed: str) -> None:
    """It was packed before the message, or held when it came, or packed before the one before: none of it is served."""
    async with open_house() as house:
        await house.ask()
        if packed == "before another":
            pack(house)
            house.fences.hear(Change(Thing("api_key", "another"), 8))
            await house.ask()
        if packed != "after":
            pack(house)
        house.key_cache.held.clear()
        house.tenant_cache.held.clear()
        house.change(after, thing)
        if packed == "after":
            pack(house)
        assert (await house.ask()).reason is reason


async def test_what_is_packed_is_confirmed_after_messages_were_lost() -> None:
    """From the moment they arrive again, Redis is asked once for what was taken in before."""
    async with open_house() as house:
        await house.ask()
        pack(house)
        house.belief.flowing(False)
        house.belief.flowing(True)
        for _ in range(2):
            assert isinstance(await house.ask(), Allow)
            pack(house)
        assert house.watch.reads["api_key", "redis"] == 1
        assert house.watch.reads["api_key", "process"] == 1


async def test_a_packed_record_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its seconds by either clock, and after its seconds of grace while PostgreSQL is away."""
    later = 0.0
    for module in (fences, held, local):
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() + later)
    async with open_house() as house:
        await house.ask()
        pack(house)
        house.key_cache.held.clear()
        house.now -= 3600
        later = 121
        await house.ask(patience=FAR)
        assert house.keys.calls == 2
        pack(house)
        await house.lose(house.postgresql)
        house.key_cache.held.clear()
        later += 719
        assert isinstance(await house.ask(patience=2000), Allow)
        pack(house)
        later += 2
        assert await house.ask(patience=2000) == AUTHENTICATION_UNAVAILABLE


async def test_a_packed_record_is_not_replaced_by_an_older_one() -> None:
    """What Redis has from before does not take its place, although nothing was heard."""
    async with open_house() as house:
        house.change(replace(KEY, permissions={}))
        assert (await house.ask()).reason is Reason.PERMISSION_DENIED
        await house.lookup.keys.shared()
        house.key_cache.held[KEY.digest] = KEY  # Redis lost what it was told
        pack(house)
        house.belief.flowing(True)
        assert (await house.ask()).reason is Reason.PERMISSION_DENIED
        assert house.keys.calls == 2
