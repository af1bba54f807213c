"""Records in use are read anew before they end, and served a while longer only while PostgreSQL is away."""

from dataclasses import replace

import pytest

from extauthz.core.changes import Change, Thing
from extauthz.core.credentials import Credential
from extauthz.core.decision import AUTHENTICATION_UNAVAILABLE, Allow
from extauthz.core.reason import Reason
from extauthz.service import local
from tests.unit.service.asking import KEY_ITSELF, ORGANIZATION, back, many, read
from tests.unit.service.fakes import KEY, NEW_DIGEST, NOW, open_house


async def test_records_in_use_are_renewed_together() -> None:
    """Before they end, in one query; who was not used again is left alone; steady traffic never waits."""
    async with open_house() as house:
        digests = many(house, 40)
        await read(house, *digests)
        house.key_cache.held.clear()
        house.now += 118.2
        await house.lookup.keys.renewal.renew_due()
        assert sorted(each.digests[0] for each in house.keys.asked[-1]) == digests
        asked = len(house.keys.asked)
        house.now += 10  # beyond the end of the first records
        for digest in digests[:30]:
            assert house.lookup.keys.lookup(Credential((digest,)), house.now) is not None
        house.key_cache.held.clear()
        house.now += 108.2
        await house.lookup.keys.renewal.renew_due()
        assert sorted(each.digests[0] for each in house.keys.asked[-1]) == digests[:30]
        assert len(house.keys.asked) == asked + 1


async def test_renewal_is_spread() -> None:
    """Records that were read at the same moment do not come due at the same moment."""
    async with open_house() as house:
        await read(house, *many(house, 300))
        house.key_cache.held.clear()
        first, last = (120 * share for share in (local.RENEW_FROM, local.RENEW_TO))
        house.now += first - 1
        house.keys.asked.clear()
        await house.lookup.keys.renewal.renew_due()
        assert house.keys.asked == []
        batches: list[int] = []
        for _ in range(int(last - first) + 3):
            house.now += 1
            house.keys.asked.clear()
            await house.lookup.keys.renewal.renew_due()
            batches += [len(asked) for asked in house.keys.asked]
        assert sum(batches) == 300
        assert max(batches) < 60


async def test_renewal_takes_what_another_process_read() -> None:
    """Where Redis has a younger record, PostgreSQL is not asked."""
    async with open_house() as house:
        await house.ask()
        house.now += 118
        house.key_cache.held[NEW_DIGEST] = replace(KEY, loaded_at=house.now, permissions={})
        await house.lookup.keys.renewal.renew_due()
        assert house.keys.calls == 1
        assert (await house.ask()).reason is Reason.PERMISSION_DENIED


async def test_a_key_that_is_gone_is_gone_at_its_renewal() -> None:
    """Renewal finds a deletion that nobody told of, and a revocation likewise."""
    async with open_house() as house:
        await read(house, *many(house, 2))
        house.key_cache.held.clear()
        house.keys.held = {"0".zfill(64): replace(KEY, revoked_at=NOW, digest="0".zfill(64))}
        house.now += 118
        await house.lookup.keys.renewal.renew_due()
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
            await house.lookup.keys.renewal.renew_due()
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
        await house.lookup.keys.renewal.renew_due()
        await back(house)
        await house.lookup.keys.renewal.renew_due()
        assert house.keys.calls == 1
        house.now += 4
        await house.lookup.keys.renewal.renew_due()
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
