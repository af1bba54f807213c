"""Records in use are renewed before they end, and served stale only while PostgreSQL is away."""

from dataclasses import replace

import pytest

from extauthz.core.changes import Change, EntityRef
from extauthz.core.credentials import Credential
from extauthz.core.decision import AUTHENTICATION_UNAVAILABLE, Allow
from extauthz.core.reason import Reason
from extauthz.service.directory import local_cache
from tests.unit.service.asking import KEY_ITSELF, ORGANIZATION, back, many, read
from tests.unit.service.fakes import KEY, NEW_DIGEST, NOW, open_house


async def test_records_in_use_are_renewed_together() -> None:
    """Before they end, in one query; unused records are not renewed; steady traffic never waits."""
    async with open_house() as fake_service:
        digests = many(fake_service, 40)
        await read(fake_service, *digests)
        fake_service.key_cache.held.clear()
        fake_service.now += 118.2
        await fake_service.lookup.keys.renewal.renew_due()
        assert sorted(each.digests[0] for each in fake_service.keys.asked[-1]) == digests
        asked = len(fake_service.keys.asked)
        fake_service.now += 10  # beyond the end of the first records
        for digest in digests[:30]:
            assert fake_service.lookup.keys.lookup(Credential((digest,)), fake_service.now) is not None
        fake_service.key_cache.held.clear()
        fake_service.now += 108.2
        await fake_service.lookup.keys.renewal.renew_due()
        assert sorted(each.digests[0] for each in fake_service.keys.asked[-1]) == digests[:30]
        assert len(fake_service.keys.asked) == asked + 1


async def test_renewal_is_spread() -> None:
    """Records that were read at the same moment do not come due at the same moment."""
    async with open_house() as fake_service:
        await read(fake_service, *many(fake_service, 300))
        fake_service.key_cache.held.clear()
        first, last = (120 * share for share in (local_cache.RENEW_FROM, local_cache.RENEW_TO))
        fake_service.now += first - 1
        fake_service.keys.asked.clear()
        await fake_service.lookup.keys.renewal.renew_due()
        assert fake_service.keys.asked == []
        batches: list[int] = []
        for _ in range(int(last - first) + 3):
            fake_service.now += 1
            fake_service.keys.asked.clear()
            await fake_service.lookup.keys.renewal.renew_due()
            batches += [len(asked) for asked in fake_service.keys.asked]
        assert sum(batches) == 300
        assert max(batches) < 60


async def test_renewal_takes_what_another_process_read() -> None:
    """Where Redis has a younger record, PostgreSQL is not asked."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.now += 118
        fake_service.key_cache.held[NEW_DIGEST] = replace(KEY, loaded_at=fake_service.now, permissions={})
        await fake_service.lookup.keys.renewal.renew_due()
        assert fake_service.keys.calls == 1
        assert (await fake_service.ask()).reason is Reason.PERMISSION_DENIED


async def test_a_key_that_is_gone_is_gone_at_its_renewal() -> None:
    """Renewal finds a deletion without a message, and a revocation likewise."""
    async with open_house() as fake_service:
        await read(fake_service, *many(fake_service, 2))
        fake_service.key_cache.held.clear()
        fake_service.keys.held = {"0".zfill(64): replace(KEY, revoked_at=NOW, digest="0".zfill(64))}
        fake_service.now += 118
        await fake_service.lookup.keys.renewal.renew_due()
        revoked, gone = await read(fake_service, "0".zfill(64), "1".zfill(64))
        assert revoked is not None
        assert revoked.revoked_at == NOW
        assert gone is None


async def test_postgresql_away_for_long() -> None:
    """A cached key passes until its time and the time of staleness are over, and no longer; then as ever."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.key_cache.held.clear()
        await fake_service.lose(fake_service.postgresql)
        for seconds in (1, 118, 119, 121, 400, 719.9):
            fake_service.now = fake_service.limits.now = NOW + seconds
            await fake_service.lookup.keys.renewal.renew_due()
            assert isinstance(await fake_service.ask(now=fake_service.now), Allow)
        fake_service.now = NOW + 720.1
        assert await fake_service.ask(now=fake_service.now) == AUTHENTICATION_UNAVAILABLE
        assert fake_service.keys.calls == 1
        await back(fake_service)
        assert isinstance(await fake_service.ask(), Allow)


async def test_a_renewal_that_failed_is_made_up_for() -> None:
    """When PostgreSQL is back before the record's end, the next request finds it renewed."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.key_cache.held.clear()
        await fake_service.lose(fake_service.postgresql)
        fake_service.now += 115
        await fake_service.lookup.keys.renewal.renew_due()
        await back(fake_service)
        await fake_service.lookup.keys.renewal.renew_due()
        assert fake_service.keys.calls == 1
        fake_service.now += 4
        await fake_service.lookup.keys.renewal.renew_due()
        assert fake_service.keys.calls == 2
        fake_service.now += 100
        await fake_service.ask()
        assert fake_service.watch.reads["api_key", None] == 1


@pytest.mark.parametrize("end", [{"revoked_at": NOW}, {"disabled_at": NOW}, {"expires_at": NOW + 300}])
async def test_staleness_admits_no_key_that_has_ended(end: dict[str, float]) -> None:
    """Revoked, disabled or expired stays so while PostgreSQL is away; expiry counts to the second."""
    async with open_house() as fake_service:
        fake_service.store(replace(KEY, **end))  # type: ignore[arg-type] # only times are changed
        await fake_service.ask()
        fake_service.key_cache.held.clear()
        await fake_service.lose(fake_service.postgresql)
        found = [(await fake_service.ask(now=NOW + seconds)).reason for seconds in (299.9, 300)]
        assert found[1] is Reason.INVALID_CREDENTIALS
        assert found[0] is (Reason.ALLOW if "expires_at" in end else Reason.INVALID_CREDENTIALS)


@pytest.mark.parametrize("thing", [KEY_ITSELF, ORGANIZATION])
async def test_staleness_ends_with_a_change(thing: EntityRef) -> None:
    """A changed record is not served stale, even if the message did not say what changed."""
    async with open_house() as fake_service:
        await fake_service.ask()
        await fake_service.lose(fake_service.postgresql)
        fake_service.invalidations.apply(Change(thing, 8))
        assert await fake_service.ask() == AUTHENTICATION_UNAVAILABLE
