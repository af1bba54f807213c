"""Whatever ends a record in use ends a packed one: changes, epochs, lost messages, time."""

from dataclasses import replace
from time import monotonic

import pytest

from extauthz.core.changes import EVERYTHING, Change, EntityRef
from extauthz.core.decision import AUTHENTICATION_UNAVAILABLE, Allow
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits
from extauthz.core.reason import Reason
from extauthz.service.directory import invalidation, local_cache, negative_cache
from tests.unit.service.asking import FAR, KEY_ITSELF, ORGANIZATION, pack_all
from tests.unit.service.fakes import KEY, NOW, TENANT, FakeService, open_house

PLAN = EntityRef("plan", TENANT.plan_id)
SUSPENDED = replace(KEY, tenant=replace(TENANT, status="suspended"))
USED_UP = replace(KEY, tenant=replace(TENANT, limits=Limits(daily_quota=0)))


def pack(fake_service: FakeService) -> None:
    """Packs all records of the process."""
    for records in (fake_service.lookup.keys, fake_service.lookup.tenants):
        assert records is not None
        pack_all(records.local)
        assert len(records.local.held) > 0
        assert not records.local.held._entries


async def test_a_packed_record_answers() -> None:
    """No slower tier is asked for it, and a use of it counts as one."""
    async with open_house() as fake_service:
        await fake_service.ask()
        for _ in range(3):
            pack(fake_service)
            assert isinstance(await fake_service.ask(), Allow)
        assert (fake_service.key_cache.finds, fake_service.keys.calls) == (1, 1)
        assert fake_service.watch.reads["api_key", "process"] == 3
        key = fake_service.lookup.keys.local.held._entries.popitem()[1]
        assert key.used_at == fake_service.now


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
async def test_a_change_ends_packed_records(after: ApiKey, thing: EntityRef, reason: Reason, packed: str) -> None:
    """Packed before the message, in use when it came, or packed earlier: no old record is served."""
    async with open_house() as fake_service:
        await fake_service.ask()
        if packed == "before another":
            pack(fake_service)
            fake_service.invalidations.apply(Change(EntityRef("api_key", "another"), 8))
            await fake_service.ask()
        if packed != "after":
            pack(fake_service)
        fake_service.key_cache.held.clear()
        fake_service.tenant_cache.held.clear()
        fake_service.change(after, thing)
        if packed == "after":
            pack(fake_service)
        assert (await fake_service.ask()).reason is reason


async def test_packed_records_are_confirmed_after_lost_messages() -> None:
    """When messages arrive again, Redis is asked once for records from before."""
    async with open_house() as fake_service:
        await fake_service.ask()
        pack(fake_service)
        fake_service.freshness.flowing(False)
        fake_service.freshness.flowing(True)
        for _ in range(2):
            assert isinstance(await fake_service.ask(), Allow)
            pack(fake_service)
        assert fake_service.watch.reads["api_key", "redis"] == 1
        assert fake_service.watch.reads["api_key", "process"] == 1


async def test_a_packed_record_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its seconds by either clock, and after its seconds of grace while PostgreSQL is away."""
    later = 0.0
    for module in (invalidation, negative_cache, local_cache):
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() + later)
    async with open_house() as fake_service:
        await fake_service.ask()
        pack(fake_service)
        fake_service.key_cache.held.clear()
        fake_service.now -= 3600
        later = 121
        await fake_service.ask(patience=FAR)
        assert fake_service.keys.calls == 2
        pack(fake_service)
        await fake_service.lose(fake_service.postgresql)
        fake_service.key_cache.held.clear()
        later += 719
        assert isinstance(await fake_service.ask(patience=2000), Allow)
        pack(fake_service)
        later += 2
        assert await fake_service.ask(patience=2000) == AUTHENTICATION_UNAVAILABLE


async def test_a_packed_record_is_not_replaced_by_an_older_one() -> None:
    """An older record in Redis does not replace it, although no message arrived."""
    async with open_house() as fake_service:
        fake_service.change(replace(KEY, permissions={}))
        assert (await fake_service.ask()).reason is Reason.PERMISSION_DENIED
        await fake_service.lookup.keys.shared()
        fake_service.key_cache.held[KEY.digest] = KEY  # Redis lost its fence
        pack(fake_service)
        fake_service.freshness.flowing(True)
        assert (await fake_service.ask()).reason is Reason.PERMISSION_DENIED
        assert fake_service.keys.calls == 2
