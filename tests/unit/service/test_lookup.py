"""Where keys, organizations and limits are read, and how requests are decided while a store is away."""

from dataclasses import replace

import pytest

from extauthz.core.changes import Change, EntityRef
from extauthz.core.decision import AUTHENTICATION_UNAVAILABLE, LIMITS_UNAVAILABLE, Allow, Deny
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.failure import OnRedisDown
from extauthz.core.ports import POSTGRESQL, REDIS
from extauthz.core.reason import Reason
from extauthz.core.subject import Identity
from tests.unit.service.fakes import KEY, KEY_FORMAT, NEW_DIGEST, OLD_DIGEST, TENANT, open_house

WHO = Identity("org-1", "key-1", "customer:read", "pro")
OTHER = f"Bearer {KEY_FORMAT.issue(bytes(20))}"


async def test_caches_spare_postgresql() -> None:
    """The second request does not read PostgreSQL; hits and misses of each cache are observed."""
    async with open_house() as fake_service:
        for _ in range(3):
            assert isinstance(await fake_service.ask(), Allow)
        assert (fake_service.keys.calls, fake_service.tenants.calls) == (1, 0)
        assert fake_service.watch.reads == {
            ("api_key", None): 1,
            ("api_key", "process"): 2,
            ("tenant_quota", None): 1,
            ("tenant_quota", "process"): 3,
        }


async def test_age_of_served_records_is_observed() -> None:
    """From its read of PostgreSQL to the request that it serves; an absent record has no age."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.now += 5
        await fake_service.ask()
        await fake_service.ask("/api/customers/7", OTHER)
        ages = {
            cache: [age if age is None else round(age) for age in told]
            for cache, told in fake_service.watch.ages.items()
        }
        assert ages == {"api_key": [0, 5, None], "tenant_quota": [0, 0, 5]}


async def test_a_route_or_a_setting_without_cache() -> None:
    """`cache = false`, and the cache turned off, read PostgreSQL every time and write nothing into the key cache."""
    async with open_house() as fake_service:
        await fake_service.ask("/api/vault/1")
        await fake_service.ask("/api/vault/1")
        assert (fake_service.keys.calls, fake_service.key_cache.calls) == (2, 0)
    async with open_house(cache_keys=False) as fake_service:
        await fake_service.ask()
        await fake_service.ask()
        assert (fake_service.keys.calls, fake_service.key_cache.calls) == (2, 0)


async def test_a_key_of_an_old_pepper_is_cached_where_it_is_stored() -> None:
    """A key stored under an earlier pepper is found, and cached under the digest that PostgreSQL has."""
    async with open_house() as fake_service:
        fake_service.keys.held = {OLD_DIGEST: replace(KEY, digest=OLD_DIGEST)}
        assert isinstance(await fake_service.ask(), Allow)
        assert list(fake_service.key_cache.held) == [OLD_DIGEST]


async def test_a_corrupt_cache_entry_is_a_miss() -> None:
    """A corrupt record in a cache is counted, read from PostgreSQL and overwritten; no request is denied for it."""
    async with open_house() as fake_service:
        fake_service.key_cache.error = fake_service.tenant_cache.error = StoreCorrupt(REDIS, "not JSON")
        assert isinstance(await fake_service.ask(), Allow)
        assert list(fake_service.key_cache.held) == [NEW_DIGEST]
        fake_service.tenants.held[TENANT.id] = replace(TENANT, version=8)
        fake_service.invalidations.apply(Change(EntityRef("organization", TENANT.id), 8))
        assert isinstance(await fake_service.ask(), Allow)
        assert fake_service.tenant_cache.held[TENANT.id].version == 8
        assert len(fake_service.watch.corrupt) == 2
        assert fake_service.watch.reads["tenant_quota", None] == 2


@pytest.mark.parametrize("tenant_row", ["corrupt", "gone"])
async def test_a_bad_organization_row_denies_that_organization(tenant_row: str) -> None:
    """A cached key whose organization is corrupt or deleted is invalid; other organizations are untouched."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.tenants.held.clear()
        fake_service.tenants.error = StoreCorrupt(POSTGRESQL, "plan") if tenant_row == "corrupt" else None
        fake_service.invalidations.apply(Change(EntityRef("organization", TENANT.id), 8))
        assert (await fake_service.ask()).reason is Reason.INVALID_CREDENTIALS
        assert len(fake_service.watch.corrupt) == (tenant_row == "corrupt")
        assert fake_service.postgresql.up


async def test_postgresql_away() -> None:
    """A cached key works with the organization read with it; keys that are not cached fail."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.now += 40  # the organization's record has ended
        fake_service.tenant_cache.held.clear()
        await fake_service.lose(fake_service.postgresql)
        decision = await fake_service.ask()
        assert isinstance(decision, Allow)
        assert (decision.identity, decision.degraded) == (WHO, False)
        assert await fake_service.ask("/api/customers", OTHER) == AUTHENTICATION_UNAVAILABLE
        assert await fake_service.ask("/api/vault/1") == AUTHENTICATION_UNAVAILABLE
        assert (fake_service.keys.calls, fake_service.tenants.calls) == (1, 0)


async def test_suspended_while_postgresql_is_away() -> None:
    """The key's own copy of its organization denies, too."""
    async with open_house() as fake_service:
        fake_service.key_cache.held[NEW_DIGEST] = replace(KEY, tenant=replace(TENANT, status="suspended"))
        await fake_service.lose(fake_service.postgresql)
        assert (await fake_service.ask()).reason is Reason.ORGANIZATION_SUSPENDED


async def test_a_suspension_reaches_cached_keys() -> None:
    """The tenant's own, younger record wins over the copy that came with the key."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.change(
            replace(KEY, tenant=replace(TENANT, status="suspended")), EntityRef("organization", TENANT.id)
        )
        assert (await fake_service.ask()).reason is Reason.ORGANIZATION_SUSPENDED


@pytest.mark.parametrize("policy", OnRedisDown)
async def test_redis_away(policy: OnRedisDown) -> None:
    """Keys come from PostgreSQL; `open` allows uncharged and says so, `closed` denies; no invalid key passes."""
    async with open_house(on_redis_down=policy) as fake_service:
        await fake_service.lose(fake_service.redis)
        decision = await fake_service.ask()
        assert decision == (Allow(WHO, degraded=True) if policy is OnRedisDown.OPEN else LIMITS_UNAVAILABLE)
        refused = [
            await fake_service.ask("/api/customers", OTHER),
            await fake_service.ask(method="POST"),
            await fake_service.ask("/api/reports/1"),
        ]
        assert [decision.reason for decision in refused] == [
            Reason.INVALID_CREDENTIALS,
            Reason.PERMISSION_DENIED,
            Reason.PERMISSION_DENIED,
        ]
        assert fake_service.limits.calls == 0


async def test_a_spend_that_fails_is_not_repeated() -> None:
    """Its outcome is unknown: one call, then the policy decides."""
    async with open_house() as fake_service:
        fake_service.limits.error = StoreUnavailable(REDIS, "timeout")
        assert await fake_service.ask() == Allow(WHO, degraded=True)
        assert fake_service.limits.calls == 1


async def test_both_stores_away() -> None:
    """No key can be looked up: 503 and never allowed, in `open` mode too. Public routes go on."""
    async with open_house() as fake_service:
        await fake_service.lose(fake_service.redis)
        await fake_service.lose(fake_service.postgresql)
        decision = await fake_service.ask()
        assert decision == AUTHENTICATION_UNAVAILABLE
        assert isinstance(decision, Deny)
        assert decision.retry_after == 1
        assert await fake_service.ask("/public/x", "") == Allow()
