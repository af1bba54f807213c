"""Plans and organizations as a person manages them, on real stores."""

import pytest

from extauthz.core.errors import Conflict, InvalidInput, NotFound
from extauthz.demo.redis import Redis as Server
from tests.servers.fixtures import stopped
from tests.servers.office import KEY_FORMAT, Office

NOW = 1_800_000_000.0
NOBODY = "00000000-0000-0000-0000-000000000000"
LIMITS: dict[str, object] = {"rate": "5/s", "burst": 50, "daily_quota": 1000, "monthly_quota": None}


async def test_the_life_of_a_plan(office: Office) -> None:
    """A plan is made, listed by name, changed one limit at a time, and removed when nobody has it."""
    gold = await office.tenants.create_plan("gold", LIMITS)
    assert {key: value for key, value in gold.to_json().items() if key in LIMITS} == LIMITS
    assert [plan.name for plan in await office.tenants.list_plans()] == ["default", "gold"]
    assert await office.tenants.show_plan("gold") == gold
    changed, told = await office.tenants.update_plan("gold", {"rate": "1/d", "daily_quota": None})
    assert told
    assert changed.to_json() == gold.to_json() | {"rate": "1/d", "daily_quota": None}
    unlimited, _ = await office.tenants.update_plan("gold", {"rate": None, "burst": None})
    assert (unlimited.limits.rate, unlimited.limits.burst) == (None, None)
    await office.tenants.create_organization("acme", "gold")
    with pytest.raises(Conflict, match=r"organizations still have the plan 'gold' \(1\); give them another first"):
        await office.tenants.delete_plan("gold")
    await office.tenants.update_organization("acme", {"plan": "default"})
    await office.tenants.delete_plan("gold")
    with pytest.raises(NotFound, match="no plan is called 'gold'"):
        await office.tenants.show_plan("gold")


async def test_what_cannot_be_a_plan_is_refused(office: Office) -> None:
    """A taken name, limits that make no sense, a plan that is not there: told in words, and nothing changes."""
    before = await office.tenants.list_plans()
    for attempt, error, words in (
        (office.tenants.create_plan("default", LIMITS), Conflict, "of that name is there already"),
        (office.tenants.create_plan("a/b", LIMITS), InvalidInput, "a plan's name is 1 to 64 "),
        (office.tenants.create_plan("gold", LIMITS | {"rate": "banana"}), InvalidInput, "rate 'banana' is no number"),
        (office.tenants.create_plan("gold", LIMITS | {"rate": "0.0001"}), InvalidInput, "cannot be kept exactly"),
        (office.tenants.create_plan("gold", LIMITS | {"burst": None}), InvalidInput, "go together"),
        (office.tenants.create_plan("gold", LIMITS | {"burst": 0}), InvalidInput, "burst is no whole number from 1"),
        (office.tenants.create_plan("gold", LIMITS | {"daily_quota": -1}), InvalidInput, "daily_quota is no whole"),
        (
            office.tenants.update_plan("default", {"rate": None}),
            InvalidInput,
            "go together: both or none",
        ),
        (office.tenants.update_plan("gold", {}), NotFound, "no plan is called 'gold'"),
        (office.tenants.delete_plan("gold"), NotFound, "no plan is called 'gold'"),
        (office.tenants.delete_plan("default"), Conflict, "the plan 'default' stays: organizations get it when none"),
    ):
        with pytest.raises(error) as refused:
            await attempt
        assert words in str(refused.value)
    assert await office.tenants.list_plans() == before


async def test_the_life_of_an_organization(office: Office) -> None:
    """An organization gets the default plan, is found by id or name, changed, cleared of overrides, and removed."""
    await office.tenants.create_plan("gold", LIMITS)
    acme = await office.tenants.create_organization("acme")
    assert (acme.plan, acme.status, set(acme.overrides.values())) == ("default", "active", {None})
    for reference in (acme.id, "acme"):
        assert await office.tenants.show_organization(reference) == acme
    umbrella = await office.tenants.create_organization("Umbrella Ltd. & Söhne", "gold")
    assert {each.id: each for each in await office.tenants.list_organizations()} == {
        acme.id: acme,
        umbrella.id: umbrella,
    }
    changes: dict[str, object] = {"plan": "gold", "rate": "1/min", "burst": 3, "daily_quota": 0}
    changed, told = await office.tenants.update_organization("acme", changes)
    assert told
    assert changed.to_json() == acme.to_json() | changes
    suspended, _ = await office.tenants.update_organization(acme.id, {"status": "suspended", "daily_quota": None})
    assert suspended.to_json() == changed.to_json() | {"status": "suspended", "daily_quota": None}
    cleared, _ = await office.tenants.update_organization("acme", {"rate": None, "burst": None, "status": "active"})
    assert cleared.to_json() == acme.to_json() | {"plan": "gold"}
    gone, told = await office.tenants.delete_organization("acme")
    assert (gone, told) == (cleared, True)
    with pytest.raises(NotFound, match="no organization has the id or name 'acme'"):
        await office.tenants.show_organization("acme")


async def test_what_cannot_be_an_organization_is_refused(office: Office) -> None:
    """A taken name, one that looks like an id, limits that do not fit the plan: told in words, nothing changes."""
    await office.tenants.create_organization("acme")
    await office.tenants.create_plan("free", {"rate": None, "burst": None, "daily_quota": 5, "monthly_quota": None})
    before = await office.tenants.list_organizations()
    name_refused = "an organization's name is 1 to 255 characters"
    for attempt, error, words in (
        (office.tenants.create_organization("acme"), Conflict, "of that name is there already"),
        (office.tenants.create_organization(NOBODY), InvalidInput, name_refused),
        (office.tenants.create_organization(" acme"), InvalidInput, name_refused),
        (office.tenants.create_organization("umbrella", "gold"), NotFound, "no plan is called 'gold'"),
        (office.tenants.update_organization("umbrella", {}), NotFound, "no organization has the id or name"),
        (office.tenants.update_organization("acme", {"plan": "gold"}), NotFound, "no plan is called 'gold'"),
        (office.tenants.update_organization("acme", {"rate": "banana"}), InvalidInput, "rate 'banana' is no number"),
        (office.tenants.update_organization("acme", {"burst": 10**10}), InvalidInput, "burst is no whole number"),
        (
            office.tenants.update_organization("acme", {"plan": "free", "rate": "1"}),
            InvalidInput,
            "rate and burst go together",
        ),
        (
            office.tenants.update_organization("acme", {"status": "paused"}),
            InvalidInput,
            "the database refuses it (organizations_status_valid)",
        ),
        (office.tenants.delete_organization("umbrella"), NotFound, "no organization has the id or name 'umbrella'"),
    ):
        with pytest.raises(error) as refused:
            await attempt
        assert words in str(refused.value)
    assert await office.tenants.list_organizations() == before


async def test_an_organization_with_usable_keys_is_not_removed(office: Office) -> None:
    """Its keys are revoked first; then it goes with every trace of them, also in the shared cache."""
    details, key = await office.new_key("acme")
    stored = await office.key_store.find(KEY_FORMAT.digest(key).digests, NOW)
    assert stored is not None
    with pytest.raises(Conflict, match=r"the organization still has usable keys \(1\); revoke them first"):
        await office.tenants.delete_organization("acme")
    await office.keys.revoke(details.id, last=True)
    await office.key_cache.put(stored.digest, stored.key, NOW)
    await office.tenant_cache.put(stored.key.tenant, NOW)
    assert (await office.tenants.delete_organization("acme"))[1] is True
    assert await office.redis.keys() == []
    with pytest.raises(NotFound):
        await office.keys.show(details.id)


async def test_a_change_of_limits_is_seen_by_the_next_check(office: Office, redis_server: Server) -> None:
    """The shared cache forgets an organization when it or its plan changes; where it cannot be told, the caller is."""
    acme = await office.tenants.create_organization("acme")
    umbrella = await office.tenants.create_organization("umbrella")
    for change in (
        lambda: office.tenants.update_organization("acme", {"status": "suspended"}),
        lambda: office.tenants.update_plan("default", {"burst": 21}),
    ):
        for tenant_id in (acme.id, umbrella.id):
            tenant = await office.tenant_store.find(tenant_id, NOW)
            assert tenant is not None
            await office.tenant_cache.put(tenant, NOW)
        _, told = await change()
        assert told
        assert await office.tenant_cache.get(acme.id, NOW) is None
    assert await office.tenant_cache.get(umbrella.id, NOW) is None
    with stopped(redis_server):
        assert (await office.tenants.update_organization("acme", {"status": "active"}))[1] is False
        assert (await office.tenants.update_plan("default", {"burst": 22}))[1] is False
        assert (await office.tenants.delete_organization("acme"))[1] is False
