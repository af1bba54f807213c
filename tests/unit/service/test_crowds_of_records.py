"""Keys that arrive together are read together, and their organization is cached once."""

from dataclasses import replace

from tests.unit.service.asking import many, read
from tests.unit.service.fakes import KEY, NOW, TENANT, FakeService, open_house


def calls(fake_service: FakeService) -> dict[str, int]:
    """Reads and writes of Redis, and queries of PostgreSQL."""
    return {
        "reads": fake_service.key_cache.finds + fake_service.tenant_cache.finds,
        "keys written": fake_service.key_cache.calls,
        "tenants written": fake_service.tenant_cache.calls,
        "queries": fake_service.keys.calls + fake_service.tenants.calls,
    }


async def test_a_crowd_of_cold_keys_costs_four_calls() -> None:
    """A hundred keys of one organization: one read of Redis, one query, one write of the keys, one of the other."""
    async with open_house() as fake_service:
        await read(fake_service, *many(fake_service, 100))
        await shared(fake_service)
        assert calls(fake_service) == {"reads": 1, "keys written": 1, "tenants written": 1, "queries": 1}
        assert len(fake_service.key_cache.held) == 100


async def test_an_organization_is_not_written_again_for_each_of_its_keys() -> None:
    """Later keys find it cached: it is written again when due for renewal, or changed."""
    async with open_house() as fake_service:
        digests = many(fake_service, 6)
        for digest in digests[:3]:
            fake_service.now += 1
            await read(fake_service, digest)
            await shared(fake_service)
        assert (fake_service.tenant_cache.calls, fake_service.tenant_cache.held[TENANT.id].loaded_at) == (1, NOW + 1)
        fake_service.now += 26
        await read(fake_service, digests[3])
        await shared(fake_service)
        assert (fake_service.tenant_cache.calls, fake_service.tenant_cache.held[TENANT.id].loaded_at) == (2, NOW + 29)
        other = replace(TENANT, plan="gold", version=9)
        for digest in digests[4:]:
            fake_service.keys.held[digest] = replace(KEY, id=digest, digest=digest, version=9, tenant=other)
            await read(fake_service, digest)
            await shared(fake_service)
        assert (fake_service.tenant_cache.calls, fake_service.tenant_cache.held[TENANT.id].plan) == (3, "gold")


async def test_suspension_without_a_message_comes_with_the_next_key() -> None:
    """The latest read is kept, whichever key it came with."""
    async with open_house() as fake_service:
        first, second = many(fake_service, 2)
        await read(fake_service, first)
        fake_service.keys.held[second] = replace(
            KEY, id=second, digest=second, tenant=replace(TENANT, status="suspended")
        )
        await read(fake_service, second)
        tenants = fake_service.lookup.tenants
        assert tenants is not None
        held = tenants.lookup(TENANT.id, fake_service.now)
        assert held is not None
        assert held.suspended


async def shared(fake_service: FakeService) -> None:
    """Returns when Redis has what was read."""
    await fake_service.lookup.keys.shared()
    if fake_service.lookup.tenants is not None:
        await fake_service.lookup.tenants.shared()
