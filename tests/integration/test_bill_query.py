"""The statement of docs/howto/plans.md, from which bills are written, on real PostgreSQL."""

import random
import re
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from extauthz.backends.postgres.pool import Pool
from extauthz.core.calendar import Calendar
from tests.servers.external_tables import sql

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "plans.md"
TODAY = date(2026, 11, 22)
DAYS = 1200  # before and after: a change of anchor, and a leap year


async def test_bills_are_by_the_months_that_quotas_count(pool: Pool) -> None:
    """Months of a bill are those of `core/calendar.py`, for every anchor, also where it was changed."""
    choose = random.Random(20261122)
    expected: Counter[tuple[str, date]] = Counter()
    for anchor in range(1, 32):
        name = f"acme {anchor}"
        organization, calendar = await _organization(pool, name, before=choose.randint(1, 31), anchor=anchor)
        days = [TODAY + timedelta(choose.randint(-DAYS, DAYS)) for _ in range(100)]
        await _use(pool, organization, *days)
        expected.update((name, calendar.month_of(day)[0]) for day in days)
    assert await _billed(pool) == {place: (count, 10 * count) for place, count in expected.items()}


async def test_bills_outlive_the_organization(pool: Pool) -> None:
    """Where the organization is gone, its id stands for its name, and its months begin on the first."""
    gone = uuid4()
    await _use(pool, gone, TODAY, TODAY)
    assert await _billed(pool) == {(str(gone), date(2026, 11, 1)): (2, 20)}


async def _organization(pool: Pool, name: str, *, before: int, anchor: int) -> tuple[UUID, Calendar]:
    """An organization whose anchor is changed at this moment, unless both are the same."""
    await sql(
        pool,
        "INSERT INTO organizations (name, plan_id, anchor) SELECT %s, id, %s FROM plans WHERE name = 'default'",
        name,
        before,
    )
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed)"
            " SELECT id, id, '2026-01-01', 1 FROM organizations WHERE name = %s",
            (name,),
        )
        cursor = await connection.execute(
            "UPDATE organizations SET anchor = %s WHERE name = %s RETURNING id, anchor_before, next_month",
            (anchor, name),
        )
        (row,) = await cursor.fetchall()
        await connection.execute("DELETE FROM usage_daily WHERE organization_id = api_key_id")
    return row["id"], Calendar(anchor=anchor, anchor_before=row["anchor_before"], next_month=row["next_month"])


async def _use(pool: Pool, organization: UUID, *days: date) -> None:
    """Another key each time, one request of cost 10."""
    await sql(
        pool,
        "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed, cost)"
        " SELECT %s, gen_random_uuid(), day, 1, 10 FROM unnest(%s::date[]) AS day",
        organization,
        list(days),
    )


async def _billed(pool: Pool) -> dict[tuple[str, date], tuple[int, int]]:
    (statement,) = re.findall(r"^```sql\n(SELECT .*?)^```", PAGE.read_text(), re.M | re.S)
    async with pool.connection() as connection:
        found = await (await connection.execute(statement.encode())).fetchall()
    return {(row["organization"], row["month"]): (row["requests"], row["cost"]) for row in found}
