"""The panel of organizations near a quota counts days and months as the limiter does."""

from time import time

import pytest

from compose.grafana.source.queries import statement
from extauthz.core.calendar import Calendar
from tests.servers.management_client import NO_LIMITS, ManagementClient

NEAR = statement("near_a_quota")
ZONES = ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "America/St_Johns")


async def used(operator: ManagementClient) -> dict[tuple[str, str], int]:
    """What the panel says is used, by organization and quota."""
    return {(row["organization"], row["quota"]): int(row["used"]) for row in await operator.rows(NEAR)}


async def charge(operator: ManagementClient, organization_id: str) -> None:
    """On each day of the last two months and on the next one, another cost."""
    await operator.sql(
        "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed, cost)"
        " SELECT %s, gen_random_uuid(), current_date - back, 1, 10 + back FROM generate_series(-1, 64) AS b (back)",
        organization_id,
    )


async def expected(operator: ManagementClient, names: dict[str, str]) -> dict[tuple[str, str], int]:
    """The same by `core/calendar.py`, from the rows of the table."""
    told: dict[tuple[str, str], int] = {}
    for name, id_ in names.items():
        (row,) = await operator.rows("SELECT * FROM organizations WHERE id::text = %s", id_)
        calendar = Calendar(
            row["timezone"],
            row["anchor"],
            row["timezone_before"],
            row["last_day"],
            row["anchor_before"],
            row["next_month"],
        )
        day = calendar.day_at(time())
        first, _ = calendar.month_of(day)
        usage = await operator.rows("SELECT day, cost FROM usage_daily WHERE organization_id::text = %s", id_)
        told[name, "daily"] = sum(each["cost"] for each in usage if each["day"] == day)
        told[name, "monthly"] = sum(each["cost"] for each in usage if first <= each["day"] <= day)
    return told


@pytest.mark.parametrize("anchor", [1, 15, 29, 31])
async def test_days_and_months_are_the_organization_s(operator: ManagementClient, anchor: int) -> None:
    """In every zone, with every anchor, also while a change of either is not in force yet."""
    await operator.tenants.create_plan("quotas", NO_LIMITS | {"daily_quota": 1, "monthly_quota": 1})
    names = {
        zone: (await operator.tenants.create_organization(zone, "quotas", timezone=zone, anchor=anchor)).id
        for zone in ZONES
    }
    for id_ in names.values():
        await charge(operator, id_)
    before, panel = await expected(operator, names), await used(operator)
    assert panel in (before, await expected(operator, names))  # a day may have ended in between
    for name, zone in zip(names, reversed(ZONES), strict=True):
        await operator.tenants.update_organization(name, {"timezone": zone, "anchor": 32 - anchor})
    before, panel = await expected(operator, names), await used(operator)
    assert panel in (before, await expected(operator, names))
