"""Organizations and plans in real PostgreSQL: what a check reads of them, and corrupt rows."""

from datetime import UTC, datetime

import pytest

from extauthz.backends.postgres.records import PostgresKeySource, PostgresTenantSource
from extauthz.core.calendar import Calendar
from extauthz.core.errors import Conflict, InvalidInput, NotFound, StoreCorrupt
from extauthz.core.limits import Limits, Rate
from extauthz.core.management import KeyTerms
from extauthz.core.tenants import Tenant
from tests.servers.management_client import KEY_FORMAT, NO_LIMITS, ManagementClient

NOW = 1_800_000_000.0
WORD = "sesame"


async def find(operator: ManagementClient, tenant_id: str) -> Tenant | StoreCorrupt | None:
    """What a check finds under an id."""
    (found,) = await PostgresTenantSource(operator.pool).find([tenant_id], NOW)
    return found


async def test_overrides_take_precedence_over_the_plan(operator: ManagementClient) -> None:
    """Each limit is the organization's override where there is one, else the plan's; 0 is a limit."""
    await operator.tenants.create_plan("gold", {"rate": "5/s", "burst": 50, "daily_quota": 1000, "monthly_quota": None})
    acme = await operator.tenants.create_organization("acme", "gold")
    steps: list[tuple[dict[str, object], Limits]] = [
        ({}, Limits(Rate(5, 1), 50, 1000, None)),
        ({"burst": 9}, Limits(Rate(5, 1), 9, 1000, None)),
        ({"daily_quota": 0, "monthly_quota": 7}, Limits(Rate(5, 1), 9, 0, 7)),
        ({"rate": "100/min", "daily_quota": None}, Limits(Rate(100, 60), 9, 1000, 7)),
        ({"rate": None, "burst": None, "monthly_quota": None}, Limits(Rate(5, 1), 50, 1000, None)),
    ]
    for changes, expected in steps:
        await operator.tenants.update_organization("acme", changes)
        found = await find(operator, acme.id)
        assert isinstance(found, Tenant)
        assert (found.limits, found.loaded_at, found.plan) == (expected, NOW, "gold")


async def test_what_counts_when_overrides_end(operator: ManagementClient) -> None:
    """A check reads the end with both sets of limits, and the limits mode."""
    await operator.tenants.create_plan("gold", {"rate": "5/s", "burst": 50, "daily_quota": 1000, "monthly_quota": None})
    acme = await operator.tenants.create_organization("acme", "gold")
    await operator.sql("UPDATE organizations SET burst = 9, monthly_quota = 7, overrides_until = '2030-01-01Z'")
    await operator.sql("UPDATE organizations SET limits = 'shadow'")
    found = await find(operator, acme.id)
    assert isinstance(found, Tenant)
    end = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert (found.overrides_until, found.shadow) == (end, True)
    assert found.limits_at(end - 1) == Limits(Rate(5, 1), 9, 1000, 7)
    assert found.limits_at(end) == found.plan_limits == Limits(Rate(5, 1), 50, 1000, None)


async def test_a_check_reads_the_calendar(operator: ManagementClient) -> None:
    """Zone and anchor, and what the trigger has kept of those before."""
    acme = await operator.tenants.create_organization("acme")
    found = await find(operator, acme.id)
    assert isinstance(found, Tenant)
    assert found.calendar == Calendar()
    await operator.charge(acme.id)
    await operator.sql("UPDATE organizations SET timezone = 'Asia/Tokyo', anchor = 31")
    found = await find(operator, acme.id)
    assert isinstance(found, Tenant)
    (row,) = await operator.rows("SELECT last_day, next_month FROM organizations")
    assert found.calendar == Calendar("Asia/Tokyo", 31, "UTC", row["last_day"], 1, row["next_month"])


async def test_rates_come_back_exactly(operator: ManagementClient) -> None:
    """A count and a period are stored as they were given; nothing is rounded on the way."""
    rates = ["0.001/s", "0.5/s", "10/s", "100/min", "0.01/min", "7/h", "1/d", "0.1/d", "86400000000000/d"]
    for number, rate in enumerate(rates):
        plan = await operator.tenants.create_plan(f"plan {number}", NO_LIMITS | {"rate": rate, "burst": 1})
        assert plan.to_json()["rate"] == rate
        assert (await operator.tenants.show_plan(plan.name)).limits.rate == Rate.parse(rate)


async def test_an_unknown_organization_is_nothing(operator: ManagementClient) -> None:
    """A check of any text finds nothing; an operator gets an error that says so."""
    for reference in ("", "nobody", "1' OR '1'='1", "\x01", "x" * 10_000):
        assert await find(operator, reference) is None
        with pytest.raises(NotFound, match="no organization has the id or name"):
            await operator.tenant_store.show_organization(reference)


@pytest.mark.parametrize("reference", ["nul\x00", "lone \udcff surrogate"])
async def test_what_postgresql_cannot_hold_is_not_found(operator: ManagementClient, reference: str) -> None:
    """Text that no column can hold is a mistake of the caller, not an outage."""
    await operator.tenants.create_organization("acme")
    for attempt in (
        operator.tenants.show_organization(reference),
        operator.tenants.show_plan(reference),
        operator.tenants.update_organization("acme", {"plan": reference}),
        operator.tenants.create_organization(reference),
        operator.tenants.create_organization("umbrella", reference),
        operator.tenants.create_plan(reference, NO_LIMITS),
        operator.tenants.delete_plan(reference),
        operator.tenants.delete_organization(reference),
        operator.keys.show(reference),
        operator.keys.list_of(reference),
        operator.keys.revoke(reference, last=True),
        operator.keys.create("acme", KeyTerms(name=reference)),
        operator.keys.update(reference, {"name": "a"}),
        operator.keys.import_key(reference, "sk-0123456789abcdef", KeyTerms()),
        operator.audit.page(reference),
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


async def test_a_corrupt_row_does_not_affect_others(operator: ManagementClient, subtests: pytest.Subtests) -> None:
    """A corrupt organization is named, its value is not repeated, and the others are as they were."""
    umbrella = await operator.tenants.create_organization("umbrella")
    await operator.drop_checks()
    for number, (table, column, value) in enumerate(NONSENSE):
        with subtests.test(table=table, column=column, value=value):
            name = f"acme {number}"
            await operator.tenants.create_plan(name, NO_LIMITS | {"rate": "5/s", "burst": 5})
            acme = await operator.tenants.create_organization(name, name)
            await operator.sql(f"UPDATE {table} SET {column} = %s WHERE name = %s", value, name)
            corrupt = await find(operator, acme.id)
            assert isinstance(corrupt, StoreCorrupt)
            assert f"organization {acme.id}: " in str(corrupt)
            assert WORD not in str(corrupt)
            assert isinstance(await find(operator, umbrella.id), Tenant)


async def test_an_override_that_fits_no_plan_is_corrupt(operator: ManagementClient) -> None:
    """A rate where the plan has no bucket, of before this was refused: that organization alone is denied."""
    await operator.tenants.create_plan("free", NO_LIMITS)
    acme = await operator.tenants.create_organization("acme", "free")
    assert isinstance(await find(operator, acme.id), Tenant)
    await operator.drop_checks()
    await operator.sql("UPDATE organizations SET rate = '1/s'")
    assert "rate and burst go together" in str(await find(operator, acme.id))


async def test_an_error_of_the_database_is_reported(operator: ManagementClient) -> None:
    """A value that extauthz accepts and the database refuses is reported in words."""
    acme = await operator.tenants.create_organization("acme")
    with pytest.raises(InvalidInput, match="rate and burst go together: give both"):
        await operator.tenant_store.create_plan("gold", Limits(burst=5))
    with pytest.raises(Conflict, match="a plan of that name is there already"):
        await operator.tenant_store.create_plan("default", Limits())
    details, key = await operator.new_key("acme")
    await operator.keys.disable(details.id)
    await operator.tenant_store.delete_organization(acme.id)
    assert await PostgresKeySource(operator.pool).find([KEY_FORMAT.digest(key)], NOW) == [None]
