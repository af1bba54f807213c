"""Keys that arrive together are read together, and their organization is taken in once."""

from dataclasses import replace

from tests.unit.service.asking import many, read
from tests.unit.service.fakes import KEY, NOW, TENANT, House, open_house


def calls(house: House) -> dict[str, int]:
    """Reads and writes of Redis, and queries of PostgreSQL."""
    return {
        "reads": house.key_cache.finds + house.tenant_cache.finds,
        "keys written": house.key_cache.calls,
        "tenants written": house.tenant_cache.calls,
        "queries": house.keys.calls + house.tenants.calls,
    }


async def test_a_crowd_of_cold_keys_costs_four_calls() -> None:
    """A hundred keys of one organization: one read of Redis, one query, one write of the keys, one of the other."""
    async with open_house() as house:
        await read(house, *many(house, 100))
        await shared(house)
        assert calls(house) == {"reads": 1, "keys written": 1, "tenants written": 1, "queries": 1}
        assert len(house.key_cache.held) == 100


async def test_an_organization_is_not_written_again_for_each_of_its_keys() -> None:
    """Keys that come later find it held: it is written again once it is due to be read anew, or says something else."""
    async with open_house() as house:
        digests = many(house, 6)
        for digest in digests[:3]:
            house.now += 1
            await read(house, digest)
            await shared(house)
        assert (house.tenant_cache.calls, house.tenant_cache.held[TENANT.id].loaded_at) == (1, NOW + 1)
        house.now += 26
        await read(house, digests[3])
        await shared(house)
        assert (house.tenant_cache.calls, house.tenant_cache.held[TENANT.id].loaded_at) == (2, NOW + 29)
        other = replace(TENANT, plan="gold", version=9)
        for digest in digests[4:]:
            house.keys.held[digest] = replace(KEY, id=digest, digest=digest, version=9, tenant=other)
            await read(house, digest)
            await shared(house)
        assert (house.tenant_cache.calls, house.tenant_cache.held[TENANT.id].plan) == (3, "gold")


async def test_a_suspension_that_no_message_told_comes_with_the_next_key() -> None:
    """What was read last is held, whichever key it came with."""
    async with open_house() as house:
        first, second = many(house, 2)
        await read(house, first)
        house.keys.held[second] = replace(KEY, id=second, digest=second, tenant=replace(TENANT, status="suspended"))
        await read(house, second)
        tenants = house.lookup.tenants
        assert tenants is not None
        held = tenants.lookup(TENANT.id, house.now)
        assert held is not None
        assert held.suspended


async def shared(house: House) -> None:
    """Returns when Redis has what was read."""
    await house.lookup.keys.shared()
    if house.lookup.tenants is not None:
        await house.lookup.tenants.shared()
