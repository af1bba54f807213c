"""A rate always has a burst: overrides of an organization and its plan together give a whole bucket or none."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest

from extauthz.backends.postgres.records import PostgresTenantSource
from extauthz.core.errors import Conflict, ExtauthzError, InvalidInput
from extauthz.core.limits import Limits
from extauthz.core.management import Organization, Plan
from extauthz.core.tenants import Tenant
from tests.servers.management_client import NO_LIMITS, ManagementClient

BUCKET = NO_LIMITS | {"rate": "5/s", "burst": 50}
OWN_RATE = "UPDATE organizations SET rate = '3/s' WHERE name = 'acme'"
INSERT = "INSERT INTO organizations (name, plan_id, {}) SELECT 'b', id, {} FROM plans WHERE name = 'free'"
NO_BUCKET = "UPDATE plans SET rate = NULL, burst = NULL WHERE name = 'gold'"


@pytest.fixture
async def acme(operator: ManagementClient) -> Organization:
    """An organization on a plan that has a bucket; there is another plan, without."""
    await operator.tenants.create_plan("gold", BUCKET)
    await operator.tenants.create_plan("free", NO_LIMITS)
    return await operator.tenants.create_organization("acme", "gold")


@pytest.mark.parametrize("first", [OWN_RATE, NO_BUCKET])
async def test_two_changes_that_do_not_fit_together(
    operator: ManagementClient, acme: Organization, database: str, first: str
) -> None:
    """Of two changes that fit each by itself and not together, the second waits for the first, and is refused."""
    async with await psycopg.AsyncConnection.connect(database) as elsewhere:
        await elsewhere.execute(first.encode())
        second: asyncio.Task[tuple[Plan | Organization, bool]] = asyncio.create_task(
            operator.tenants.update_plan("gold", {"rate": None, "burst": None})
            if first == OWN_RATE
            else operator.tenants.update_organization("acme", {"rate": "3/s"})
        )
        async with asyncio.timeout(10):
            while not await operator.rows("SELECT FROM pg_locks WHERE NOT granted"):
                assert not second.done()
        await elsewhere.commit()
    kind, words = (
        (Conflict, "organizations override half of this plan's bucket; clear that first: acme")
        if first == OWN_RATE
        else (InvalidInput, "rate and burst go together")
    )
    with pytest.raises(kind, match=words):
        await second


async def test_an_expired_override_does_not_prevent_a_change_of_plan(
    operator: ManagementClient, acme: Organization
) -> None:
    """Expired overrides prevent no change of the plan, deny no key, and come back only where they fit."""
    await operator.sql(OWN_RATE)
    await operator.sql("UPDATE organizations SET overrides_until = '2026-01-01Z' WHERE name = 'acme'")
    await operator.tenants.update_plan("gold", {"rate": None, "burst": None})
    (tenant,) = await PostgresTenantSource(operator.pool).find([acme.id], 1_800_000_000.0)
    assert isinstance(tenant, Tenant)
    assert tenant.limits_at(1_800_000_000.0) == Limits()
    with pytest.raises(InvalidInput, match="'acme' on plan 'gold': rate and burst go together"):
        await operator.tenants.update_organization("acme", {"until": datetime(2100, 1, 1, tzinfo=UTC)})
    with pytest.raises(psycopg.errors.CheckViolation):
        await operator.sql("UPDATE organizations SET overrides_until = NULL WHERE name = 'acme'")
    await operator.sql(
        "UPDATE organizations SET plan_id = (SELECT id FROM plans WHERE name = 'free') WHERE name = 'acme'"
    )


async def test_conflicting_organizations_are_named(operator: ManagementClient, acme: Organization) -> None:
    """The first five by name, and how many more there are; to SQL as well."""
    for number in range(6):
        await operator.tenants.create_organization(f"org {number}", "gold")
    await operator.sql("UPDATE organizations SET rate = '3/s'")
    with pytest.raises(Conflict) as refused:
        await operator.tenants.update_plan("gold", {"rate": None, "burst": None})
    assert str(refused.value).endswith("clear that first: acme, org 0, org 1, org 2, org 3 and 2 more")
    with pytest.raises(psycopg.errors.RestrictViolation, match=r"of plan gold .*: acme, org 0, org 1"):
        await operator.sql(NO_BUCKET)


async def test_many_changes_that_do_not_fit_together(operator: ManagementClient, acme: Organization) -> None:
    """In every order of the two changes at most one of them is made."""
    for _ in range(20):
        outcomes = await asyncio.gather(
            operator.tenants.update_organization("acme", {"rate": "3/s"}),
            operator.tenants.update_plan("gold", {"rate": None, "burst": None}),
            return_exceptions=True,
        )
        assert len([each for each in outcomes if isinstance(each, ExtauthzError)]) == 1
        await operator.tenants.update_organization("acme", {"rate": None})
        await operator.tenants.update_plan("gold", BUCKET)


@pytest.mark.parametrize(
    ("prepare", "statement", "constraint"),
    [
        ("", INSERT.format("rate", "'1/s'"), "o"),
        ("", INSERT.format("burst", "1"), "o"),
        (OWN_RATE, "UPDATE organizations SET plan_id = (SELECT id FROM plans WHERE name = 'free')", "o"),
        ("UPDATE organizations SET rate = '3/s', burst = 3", "UPDATE plans SET rate = NULL, burst = NULL", ""),
        (
            "UPDATE organizations SET plan_id = p.id, rate = '1/s', burst = 5 FROM plans p WHERE p.name = 'free'",
            "UPDATE organizations SET burst = NULL",
            "o",
        ),
        (OWN_RATE, NO_BUCKET, "p"),
    ],
)
async def test_half_a_bucket_in_sql(
    operator: ManagementClient, acme: Organization, prepare: str, statement: str, constraint: str
) -> None:
    """SQL is refused in the same way, by a named constraint; a change that completes a bucket is accepted."""
    if prepare:
        await operator.sql(prepare)
    if not constraint:
        return await operator.sql(statement)
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.RestrictViolation)) as refused:
        await operator.sql(statement)
    names = {"o": "organizations_rate_and_burst_go_together", "p": "plans_bucket_is_overridden"}
    assert refused.value.diag.constraint_name == names[constraint]
    return None


async def test_an_organization_with_half_a_bucket_can_be_suspended(
    operator: ManagementClient, acme: Organization
) -> None:
    """A row from before the constraint: limits are checked where they or the plan are changed, and only there."""
    await operator.sql("ALTER TABLE plans DISABLE TRIGGER plans_fit_organizations")
    await operator.sql(OWN_RATE)
    await operator.sql(NO_BUCKET)
    changes: tuple[dict[str, object], ...] = (
        {"status": "suspended"},
        {"name": "Acme"},
        {"rate": "3/s", "plan": "gold"},
    )
    for change in changes:
        await operator.tenants.update_organization(acme.id, change)
    wrong: tuple[dict[str, object], ...] = ({"daily_quota": 5}, {"rate": "4/s"}, {"plan": "free"})
    for change in wrong:
        with pytest.raises(InvalidInput, match="rate and burst go together"):
            await operator.tenants.update_organization(acme.id, change)
    mended, _ = await operator.tenants.update_organization(acme.id, {"rate": None, "status": "active"})
    assert (mended.name, mended.status, mended.overrides["rate"]) == ("Acme", "active", None)


@pytest.mark.parametrize("table", ["plans", "organizations", "api_keys", "plans, organizations, api_keys"])
async def test_no_table_is_truncated(operator: ManagementClient, table: str) -> None:
    """A TRUNCATE, which would reach neither caches nor the audit log, is refused with the command to use instead."""
    key, _ = await operator.new_key("acme")
    with pytest.raises(psycopg.errors.RestrictViolation, match="cannot be truncated: nobody would be told") as refused:
        await operator.sql(f"TRUNCATE {table} CASCADE")
    assert (refused.value.diag.message_hint or "").startswith("Use DELETE FROM ")
    assert await operator.keys.show(key.id) == key
