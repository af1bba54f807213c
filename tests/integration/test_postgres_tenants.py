"""Organizations and plans in real PostgreSQL: what a check reads of them, and what becomes of senseless rows."""

from datetime import UTC, datetime

import pytest

from extauthz.backends.postgres.records import PostgresKeySource, PostgresTenantSource
from extauthz.core.calendar import Calendar
from extauthz.core.errors import Conflict, InvalidInput, NotFound, StoreCorrupt
from extauthz.core.limits import Limits, Rate
from extauthz.core.records import KeyTerms
from extauthz.core.tenants import Tenant
from tests.servers.office import KEY_FORMAT, NO_LIMITS, Office

NOW = 1_800_000_000.0
WORD = "sesame"


async def find(office: Office, tenant_id: str) -> Tenant | StoreCorrupt | None:
    """What a check finds under an id."""
    (found,) = await PostgresTenantSource(office.pool).find([tenant_id], NOW)
    return found


async def test_an_organizations_own_limits_go_before_its_plans(office: Office) -> None:
    """Each limit comes from the organization where it has one of its own, from the plan where not; 0 is a limit."""
    await office.tenants.create_plan("gold", {"rate": "5/s", "burst": 50, "daily_quota": 1000, "monthly_quota": None})
    acme = await office.tenants.create_organization("acme", "gold")
    steps: list[tuple[dict[str, object], Limits]] = [
        ({}, Limits(Rate(5, 1), 50, 1000, None)),
        ({"burst": 9}, Limits(Rate(5, 1), 9, 1000, None)),
        ({"daily_quota": 0, "monthly_quota": 7}, Limits(Rate(5, 1), 9, 0, 7)),
        ({"rate": "100/min", "daily_quota": None}, Limits(Rate(100, 60), 9, 1000, 7)),
        ({"rate": None, "burst": None, "monthly_quota": None}, Limits(Rate(5, 1), 50, 1000, None)),
    ]
    for changes, expected in steps:
        await office.tenants.update_organization("acme", changes)
        found = await find(office, acme.id)
        assert isinstance(found, Tenant)
        assert (found.limits, found.loaded_at, found.plan) == (expected, NOW, "gold")


async def test_what_counts_when_overrides_end(office: Office) -> None:
    """A check reads the end with both limits, and whether any of them is enforced."""
    await office.tenants.create_plan("gold", {"rate": "5/s", "burst": 50, "daily_quota": 1000, "monthly_quota": None})
    acme = await office.tenants.create_organization("acme", "gold")
    await office.sql("UPDATE organizations SET burst = 9, monthly_quota = 7, overrides_until = '2030-01-01Z'")
    await office.sql("UPDATE organizations SET limits = 'shadow'")
    found = await find(office, acme.id)
    assert isinstance(found, Tenant)
    end = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert (found.overrides_until, found.shadow) == (end, True)
    assert found.limits_at(end - 1) == Limits(Rate(5, 1), 9, 1000, 7)
    assert found.limits_at(end) == found.plan_limits == Limits(Rate(5, 1), 50, 1000, None)


async def test_a_check_reads_the_calendar(office: Office) -> None:
    """Zone and anchor, and what the trigger has written down of those before."""
    acme = await office.tenants.create_organization("acme")
    found = await find(office, acme.id)
    assert isinstance(found, Tenant)
    assert found.calendar == Calendar()
    await office.charge(acme.id)
    await office.sql("UPDATE organizations SET timezone = 'Asia/Tokyo', anchor = 31")
    found = await find(office, acme.id)
    assert isinstance(found, Tenant)
    (row,) = await office.rows("SELECT last_day, next_month FROM organizations")
    assert found.calendar == Calendar("Asia/Tokyo", 31, "UTC", row["last_day"], 1, row["next_month"])


async def test_rates_come_back_exactly(office: Office) -> None:
    """A count and a period are stored as they were given; nothing is rounded on the way."""
    rates = ["0.001/s", "0.5/s", "10/s", "100/min", "0.01/min", "7/h", "1/d", "0.1/d", "86400000000000/d"]
    for number, rate in enumerate(rates):
        plan = await office.tenants.create_plan(f"plan {number}", NO_LIMITS | {"rate": rate, "burst": 1})
        assert plan.to_json()["rate"] == rate
        assert (await office.tenants.show_plan(plan.name)).limits.rate == Rate.parse(rate)


async def test_an_unknown_organization_is_nothing(office: Office) -> None:
    """Any text may be asked for: a check finds nothing, a person is told that there is none."""
    for reference in ("", "nobody", "1' OR '1'='1", "\x01", "x" * 10_000):
        assert await find(office, reference) is None
        with pytest.raises(NotFound, match="no organization has the id or name"):
            await office.tenant_store.show_organization(reference)


@pytest.mark.parametrize("reference", ["nul\x00", "lone \udcff surrogate"])
async def test_what_postgresql_cannot_hold_is_not_found(office: Office, reference: str) -> None:
    """Text that no column can hold is a mistake of the person who gave it, not an outage."""
    await office.tenants.create_organization("acme")
    for attempt in (
        office.tenants.show_organization(reference),
        office.tenants.show_plan(reference),
        office.tenants.update_organization("acme", {"plan": reference}),
        office.tenants.create_organization(reference),
        office.tenants.create_organization("umbrella", reference),
        office.tenants.create_plan(reference, NO_LIMITS),
        office.tenants.delete_plan(reference),
        office.tenants.delete_organization(reference),
        office.keys.show(reference),
        office.keys.list_of(reference),
        office.keys.revoke(reference, last=True),
        office.keys.create("acme", KeyTerms(name=reference)),
        office.keys.update(reference, {"name": "a"}),
        office.keys.import_key(reference, "sk-0123456789abcdef", KeyTerms()),
        office.audit.page(reference),
    ):
        with pytest.raises((NotFound, InvalidInput)):
            await attempt


NONSENSE: list[tuple[str, str, object]] = [
    ("organizations", "rate", WORD),
    ("organizations", "burst", 0),
    ("organizations", "monthly_quota", -5),
    ("organizations", "status", WORD),
    ("organizations", "timezone", WORD),
    ("organizations", "timezone_before", f"Europe/{WORD}"),
    ("organizations", "anchor", 0),
    ("organizations", "limits", WORD),
    ("organizations", "overrides_until", "-infinity"),
    ("plans", "rate", WORD),
    ("plans", "burst", None),
    ("plans", "name", f"gold\n{WORD}"),
]


async def test_a_row_that_makes_no_sense_harms_no_other(office: Office, subtests: pytest.Subtests) -> None:
    """Such an organization is corrupt by name, its value is not repeated, and the others are as they were."""
    umbrella = await office.tenants.create_organization("umbrella")
    await office.drop_checks()
    for number, (table, column, value) in enumerate(NONSENSE):
        with subtests.test(table=table, column=column, value=value):
            name = f"acme {number}"
            await office.tenants.create_plan(name, NO_LIMITS | {"rate": "5/s", "burst": 5})
            acme = await office.tenants.create_organization(name, name)
            await office.sql(f"UPDATE {table} SET {column} = %s WHERE name = %s", value, name)
            corrupt = await find(office, acme.id)
            assert isinstance(corrupt, StoreCorrupt)
            assert f"organization {acme.id}: " in str(corrupt)
            assert WORD not in str(corrupt)
            assert isinstance(await find(office, umbrella.id), Tenant)


async def test_an_override_that_fits_no_plan_is_corrupt(office: Office) -> None:
    """A rate where the plan has no bucket, of before this was refused: that organization alone is denied."""
    await office.tenants.create_plan("free", NO_LIMITS)
    acme = await office.tenants.create_organization("acme", "free")
    assert isinstance(await find(office, acme.id), Tenant)
    await office.drop_checks()
    await office.sql("UPDATE organizations SET rate = '1/s'")
    assert "rate and burst go together" in str(await find(office, acme.id))


async def test_the_database_has_the_last_word(office: Office) -> None:
    """What our own checks let through and the database refuses is told in words."""
    acme = await office.tenants.create_organization("acme")
    with pytest.raises(InvalidInput, match="rate and burst go together: give both"):
        await office.tenant_store.create_plan("gold", Limits(burst=5))
    with pytest.raises(Conflict, match="a plan of that name is there already"):
        await office.tenant_store.create_plan("default", Limits())
    details, key = await office.new_key("acme")
    await office.keys.disable(details.id)
    await office.tenant_store.delete_organization(acme.id)
    assert await PostgresKeySource(office.pool).find([KEY_FORMAT.digest(key)], NOW) == [None]
