"""An organization's calendar, the end of its overrides and its limits mode, as an operator manages them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg import errors

from extauthz.core.errors import InvalidInput
from tests.servers.management_client import NO_LIMITS, ManagementClient

FAR = datetime(2100, 1, 1, tzinfo=UTC)


async def test_calendar_and_mode_of_an_organization(operator: ManagementClient) -> None:
    """A time zone, the day on which months begin, the limits mode; a new organization has the defaults."""
    acme = await operator.tenants.create_organization("acme")
    assert (acme.timezone, acme.anchor, acme.limits_mode, acme.until) == ("UTC", 1, "enforce", None)
    changes: dict[str, Any] = {"timezone": "America/Argentina/Buenos_Aires", "anchor": 31, "limits_mode": "shadow"}
    changed, told = await operator.tenants.update_organization("acme", changes)
    assert told
    assert changed == replace(acme, **changes, updated_at=changed.updated_at, row_version=2)
    assert changed == await operator.tenants.show_organization("acme")
    assert [changed] == await operator.tenants.list_organizations()
    assert [changed] == (await operator.tenants.page_of_organizations()).items


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"timezone": "Europe/Berln"},
            "must be a name of the time zone database (got 'Europe/Berln'); did you mean Europ",
        ),
        ({"timezone": "berlin"}, "did you mean Europe/Berlin?"),
        ({"timezone": "new york"}, "did you mean America/New_York?"),
        ({"timezone": "Factory"}, "must be a name of the time zone database (got 'Factory')"),
        ({"timezone": "posix/Europe/Berlin"}, "did you mean Europe/Berlin?"),
        ({"timezone": "+02:00"}, "(got '+02:00'); one is Europe/Berlin"),
        ({"timezone": "../etc/passwd"}, "must be a name of the time zone database"),
        ({"timezone": "Europe/Berlin\0"}, "did you mean Europe/Berlin?"),
        ({"timezone": "x" * 10_000}, "must be a name of the time zone database"),
        ({"timezone": None}, "timezone must be a text"),
        ({"anchor": 0}, "anchor must be a whole number from 1 to 31"),
        ({"anchor": 32}, "anchor must be a whole number from 1 to 31"),
        ({"anchor": True}, "anchor must be a whole number from 1 to 31"),
        ({"anchor": "5"}, "anchor must be a whole number from 1 to 31"),
        ({"anchor": None}, "anchor must be a whole number from 1 to 31"),
        ({"limits_mode": "off"}, "limits_mode is enforce or shadow"),
        ({"limits_mode": None}, "limits_mode must be a text"),
        ({"until": datetime(2020, 1, 1, tzinfo=UTC)}, "until 2020-01-01T00:00:00+00:00 is in the past"),
        ({"until": datetime(2100, 1, 1)}, "until must have a time zone (got 2100-01-01T00:00:00)"),  # noqa: DTZ001 - that is it
        ({"until": datetime(9999, 1, 1, tzinfo=UTC)}, "must be at most in the year 9998, in UTC"),
        ({"until": "tomorrow"}, "until must be a time"),
    ],
)
async def test_an_invalid_calendar_is_refused(
    operator: ManagementClient, changes: dict[str, object], words: str
) -> None:
    """The error says so, with a suggestion where there is one; nothing changes, not even valid fields beside it."""
    acme = await operator.tenants.create_organization("acme")
    with pytest.raises(InvalidInput) as refused:
        await operator.tenants.update_organization("acme", {"status": "suspended"} | changes)
    assert words in str(refused.value)
    assert await operator.tenants.show_organization("acme") == acme


async def test_a_zone_that_only_python_has(operator: ManagementClient) -> None:
    """PostgreSQL refuses it, and the error says so."""
    acme = await operator.tenants.create_organization("acme")
    with pytest.raises(InvalidInput, match="timezone must be one that PostgreSQL has"):
        await operator.tenant_store.update_organization(
            acme.id, lambda before: replace(before, timezone="Europe/Atlantis"), version=None
        )


async def test_overrides_with_an_end(operator: ManagementClient) -> None:
    """Overrides may have an end, which may be moved, also after it, and be removed."""
    await operator.tenants.create_organization("acme")
    for changes, until in (
        ({"daily_quota": 7, "until": FAR}, FAR),
        ({"burst": 3}, FAR),
        ({"until": None}, None),
        ({"until": FAR}, FAR),
    ):
        changed, _ = await operator.tenants.update_organization("acme", changes)
        assert changed.until == until
    assert changed.overrides == NO_LIMITS | {"burst": 3, "daily_quota": 7}
    await operator.sql("UPDATE organizations SET overrides_until = '2026-01-01Z'")
    renamed, _ = await operator.tenants.update_organization("acme", {"name": "umbrella", "rate": None})
    assert (renamed.overrides, renamed.until) == (changed.overrides, datetime(2026, 1, 1, tzinfo=UTC))
    prolonged, _ = await operator.tenants.update_organization("umbrella", {"until": FAR})
    assert (prolonged.overrides, prolonged.until) == (changed.overrides, FAR)


@pytest.mark.parametrize("until", [None, FAR])
async def test_overrides_that_are_over_do_not_come_back(operator: ManagementClient, until: datetime | None) -> None:
    """New overrides of an organization do not get the end of the old ones, unless the change names another."""
    await operator.tenants.create_organization("acme")
    await operator.tenants.update_organization("acme", {"daily_quota": 7, "burst": 3, "until": FAR})
    await operator.sql("UPDATE organizations SET overrides_until = '2026-01-01Z'")
    named: dict[str, object] = {} if until is None else {"until": until}
    changed, _ = await operator.tenants.update_organization("acme", {"monthly_quota": 100} | named)
    assert changed.overrides == NO_LIMITS | {"monthly_quota": 100}
    assert changed.until == until


@pytest.mark.parametrize(
    "changes",
    [{"plan": "gold"}, {"until": None}, {"plan": "gold", "until": None}],
)
async def test_overrides_that_are_over_do_not_prevent_changes(
    operator: ManagementClient, changes: dict[str, object]
) -> None:
    """With another plan, or when their end is removed, they are dropped: they neither prevent it nor come back."""
    await operator.tenants.create_plan("gold", NO_LIMITS)
    await operator.tenants.create_organization("acme")
    await operator.tenants.update_organization("acme", {"burst": 3, "daily_quota": 7, "until": FAR})
    with pytest.raises(InvalidInput, match="organization 'acme' on plan 'gold': rate and burst go together"):
        await operator.tenants.update_organization("acme", {"plan": "gold"})
    await operator.sql("UPDATE organizations SET overrides_until = '2026-01-01Z'")
    changed, _ = await operator.tenants.update_organization("acme", changes)
    assert changed.overrides == NO_LIMITS
    assert (changed.until, changed.plan) == (None, changes.get("plan", "default"))


async def test_a_zone_that_a_trigger_of_the_operator_cannot_use(operator: ManagementClient) -> None:
    """The caller gets what PostgreSQL says of a value that it refuses."""
    await operator.tenants.create_organization("acme")
    await operator.sql(
        "CREATE FUNCTION local() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM now() AT TIME ZONE 'Gone/Zone'; RETURN NEW; END $$"
    )
    await operator.sql("CREATE TRIGGER theirs BEFORE UPDATE ON organizations FOR EACH ROW EXECUTE FUNCTION local()")
    with pytest.raises(InvalidInput, match='refuses it: time zone "Gone/Zone" not recognized'):
        await operator.tenants.update_organization("acme", {"anchor": 5})


async def test_the_end_goes_with_the_last_override(operator: ManagementClient) -> None:
    """All overrides have one end; it is removed with the last override, and does not apply to later ones."""
    await operator.tenants.create_organization("acme")
    await operator.tenants.update_organization("acme", {"burst": 3, "daily_quota": 7, "until": FAR})
    changed, _ = await operator.tenants.update_organization("acme", {"burst": None})
    assert changed.until == FAR
    changed, _ = await operator.tenants.update_organization("acme", {"daily_quota": None})
    assert (changed.overrides, changed.until) == (NO_LIMITS, None)


async def test_an_end_without_overrides_is_refused(operator: ManagementClient) -> None:
    """An end without overrides would apply to later ones; it is refused by command and in SQL."""
    acme = await operator.tenants.create_organization("acme")
    for changes in ({"until": FAR}, {"until": FAR, "daily_quota": None}, {"until": FAR, "timezone": "Asia/Tokyo"}):
        with pytest.raises(InvalidInput, match="until is the end of an organization's own limits, and it has none"):
            await operator.tenants.update_organization("acme", changes)
    for statement in (
        "UPDATE organizations SET overrides_until = '2100-01-01Z'",
        "INSERT INTO organizations (name, plan_id, overrides_until) SELECT 'b', id, '2100-01-01Z' FROM plans",
    ):
        with pytest.raises(errors.CheckViolation) as refused:
            await operator.sql(statement)
        assert refused.value.diag.constraint_name == "organizations_until_ends_own_limits"
    assert await operator.tenants.show_organization("acme") == acme
    await operator.tenants.update_organization("acme", {"daily_quota": 7, "until": FAR})
    with pytest.raises(InvalidInput, match="it has none"):
        await operator.tenants.update_organization("acme", {"daily_quota": None, "until": FAR})
    await operator.sql("UPDATE organizations SET daily_quota = NULL")
    assert (await operator.tenants.show_organization("acme")).until is None


async def test_the_first_calendar(operator: ManagementClient) -> None:
    """Given at creation, by command or in SQL, or before the first charge, it holds from the start."""
    acme = await operator.tenants.create_organization("acme", timezone="Asia/Tokyo", anchor=15)
    assert (acme.timezone, acme.anchor, acme.timezone_from, acme.anchor_from) == ("Asia/Tokyo", 15, None, None)
    await operator.sql(
        "INSERT INTO organizations (name, plan_id, timezone, anchor) SELECT 'b', id, 'Asia/Tokyo', 15 FROM plans"
    )
    other = await operator.tenants.show_organization("b")
    assert (other.timezone, other.anchor, other.timezone_from, other.anchor_from) == ("Asia/Tokyo", 15, None, None)
    moved, _ = await operator.tenants.update_organization("acme", {"timezone": "Europe/Berlin", "anchor": 31})
    assert (moved.timezone_from, moved.anchor_from) == (None, None)
    await operator.sql(
        "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed, cost)"
        " SELECT id, gen_random_uuid(), now()::date, 1, 1 FROM organizations"
    )
    moved, _ = await operator.tenants.update_organization("acme", {"timezone": "UTC", "anchor": 1})
    assert moved.timezone_from is not None
    assert moved.anchor_from is not None
    assert moved.timezone_from > datetime.now(UTC)
    for wrong in ({"timezone": "Europe/Berln"}, {"anchor": 0}, {"anchor": 32}):
        with pytest.raises(InvalidInput):
            await operator.tenants.create_organization("c", **wrong)
