"""What an organization has used in a range of days or in a month, by `GET /v1/usage` on real servers."""

import json
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from extauthz.backends.postgres.statements import STATEMENTS
from extauthz.core.calendar import Calendar
from extauthz.core.usage_range import DAYS_MAX
from extauthz.demo.redis import Redis as RedisServer
from tests.servers.admin_api import Caller, code, fields, value
from tests.servers.fixtures import stopped
from tests.servers.management_client import ManagementClient
from tests.servers.usage_reports import (
    ACME,
    ONE,
    THREE,
    TWO,
    Day,
    acme,
    ask,
    count,
    new_organization,
    ops,
    save,
    today,
    used,
)

__all__ = ["acme", "ops", "today"]

ANCHORED = "bbbbbbbb-0000-4000-8000-000000000000"
FIGURES = ("allowed", "cost", "rate_limited", "over_quota")
NONE = dict.fromkeys(FIGURES, 0)
NEW_YEAR = {"from": "2025-12-30", "to": "2026-01-02"}


def figures(row: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(row[name] for name in FIGURES)


@pytest.fixture
async def at_new_year(acme: ManagementClient) -> ManagementClient:
    """An organization that was used on either side of a year's end, and of the range that is asked for."""
    for day, key_id, times in (
        ("2025-12-29", ONE, 1000),
        ("2025-12-30", ONE, 1),
        ("2025-12-31", ONE, 20),
        ("2025-12-31", TWO, 300),
        ("2026-01-02", TWO, 4000),
        ("2026-01-03", TWO, 1000),
    ):
        counts = {"allowed": times, "cost": 10 * times, "rate_limited": 2 * times, "over_quota": times}
        await save(acme, key_id, date.fromisoformat(day), **counts, revision=times)
    return acme


async def test_a_range_by_key(ops: Caller, at_new_year: ManagementClient) -> None:
    """The sums of every key in the order of ids, which is also the default."""
    usage = await used(ops, **NEW_YEAR, by="key")
    assert usage == await used(ops, **NEW_YEAR)
    assert {name: usage[name] for name in ("day", "from", "to", "by", "next")} == {
        "day": None,
        **NEW_YEAR,
        "by": "key",
        "next": None,
    }
    assert figures(usage) == (4321, 43210, 8642, 4321)
    assert usage["remaining"] == {"daily": 1000, "monthly": 5000, "hourly": None}
    assert [(row["api_key_id"], *figures(row)) for row in usage["items"]] == [
        (ONE, 21, 210, 42, 21),
        (TWO, 4300, 43000, 8600, 4300),
    ]
    assert all(row["from"] == NEW_YEAR["from"] and row["to"] == NEW_YEAR["to"] for row in usage["items"])


async def test_a_range_by_day(ops: Caller, at_new_year: ManagementClient) -> None:
    """Every day has a row, the oldest first, and one of zeros where nothing was used."""
    usage = await used(ops, **NEW_YEAR, by="day")
    assert figures(usage) == (4321, 43210, 8642, 4321)
    days = [("2025-12-30", 1), ("2025-12-31", 320), ("2026-01-01", 0), ("2026-01-02", 4000)]
    assert usage["items"] == [
        {"from": day, "to": day, "allowed": times, "cost": 10 * times, "rate_limited": 2 * times, "over_quota": times}
        for day, times in days
    ]


async def test_a_range_by_month(ops: Caller, at_new_year: ManagementClient) -> None:
    """Months are those of the organization's quota, cut short where the range begins or ends within one."""
    await new_organization(at_new_year, ANCHORED, "anchored", anchor=31)
    months = (await used(ops, **NEW_YEAR, by="month"))["items"]
    assert [(row["from"], row["to"], row["allowed"]) for row in months] == [
        ("2025-12-30", "2025-12-31", 321),
        ("2026-01-01", "2026-01-02", 4000),
    ]
    months = (await used(ops, organization_id="anchored", **NEW_YEAR, by="month"))["items"]
    assert months == [
        {"from": "2025-12-30", "to": "2025-12-30", **NONE},
        {"from": "2025-12-31", "to": "2026-01-02", **NONE},
    ]


async def test_a_month(ops: Caller, at_new_year: ManagementClient, today: Day) -> None:
    """It begins on the organization's anchor in that month of the year; the one under way ends today."""
    december = await used(ops, month="2025-12", by="month")
    assert (december["from"], december["to"], december["allowed"]) == ("2025-12-01", "2025-12-31", 1321)
    assert [figures(row) for row in december["items"]] == [figures(december)]
    await new_organization(at_new_year, ANCHORED, "anchored", anchor=15)
    usage = await used(ops, organization_id="anchored", month="2025-12")
    assert (usage["from"], usage["to"], usage["items"]) == ("2025-12-15", "2026-01-14", [])
    now = await used(ops, month=f"{today.when:%Y-%m}", by="day")
    assert (now["from"], now["to"]) == (f"{today.when:%Y-%m}-01", today.when.isoformat())
    assert len(now["items"]) == min(today.when.day, 50)


async def test_recent_days_come_from_redis(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """By day, month and key, today and yesterday are as Redis has them, each key once, and earlier days as saved."""
    await save(acme, ONE, today.before(2), allowed=1, cost=1, revision=1)
    await save(acme, ONE, today.before(), allowed=10, cost=10, rate_limited=5, revision=1)
    await save(acme, TWO, allowed=100, cost=100, over_quota=7, revision=1)
    yesterday = Day(today.before()).field
    counted = {
        f"{yesterday}:{ONE}": "30 30 2",
        f"{today.field}:{TWO}": "500 500 2",
        f"{today.field}:{THREE}": "2000 1 1",
    }
    await count(acme, {"seeded": "0123456789ab", **counted, f"d:20200101:{ONE}": "9 9 9", f"d:99999999:{ONE}": "9 9 9"})
    range_ = {"from": today.before(2), "to": today.when}
    rows = {by: (await used(ops, **range_, by=by))["items"] for by in ("key", "day", "month")}
    assert [(row["api_key_id"], *figures(row)) for row in rows["key"]] == [
        (ONE, 31, 31, 5, 0),
        (TWO, 500, 500, 0, 7),
        (THREE, 1, 2000, 0, 0),
    ]
    assert [figures(row) for row in rows["day"]] == [(1, 1, 0, 0), (30, 30, 5, 0), (501, 2500, 0, 7)]
    assert [sum(row[name] for row in rows["month"]) for name in FIGURES] == [532, 2531, 5, 7]
    until_yesterday = await used(ops, **{"from": today.before(2), "to": today.before()})
    assert figures(until_yesterday) == (31, 31, 5, 0)


async def test_counters_that_began_without_postgresql(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """What Redis counted on its own is added to the days that it was counted on."""
    await save(acme, ONE, today.before(), allowed=5, cost=50, revision=5)
    await save(acme, ONE, allowed=4, cost=40, revision=4)
    yesterday = Day(today.before()).field
    began_with = {f"was:{yesterday}:{ONE}": "60 6 6"}
    counted = {f"{yesterday}:{ONE}": "70 7 7", f"{today.field}:{ONE}": "3 1 1"}
    await count(acme, {"seeded": "0123456789ab?", **began_with, **counted})
    usage = await used(ops, **{"from": today.before()}, by="day")
    assert [figures(row)[:2] for row in usage["items"]] == [(7, 70), (5, 43)]


async def test_without_redis(ops: Caller, at_new_year: ManagementClient, redis_server: RedisServer) -> None:
    """While Redis is away, saved usage is returned, marked as incomplete."""
    with stopped(redis_server):
        usage = await used(ops, **NEW_YEAR, by="month")
    assert (usage["allowed"], usage["complete"]) == (4321, False)


async def test_names_of_keys(ops: Caller, acme: ManagementClient) -> None:
    """A deleted key has its usage and no name."""
    key, _ = await acme.new_key("acme", name="ci")
    for key_id in (key.id, ONE):
        await save(acme, key_id, allowed=1, revision=1)
    assert {row["api_key_id"]: row["api_key_name"] for row in (await used(ops))["items"]} == {key.id: "ci", ONE: None}


async def test_days_are_those_of_its_time_zone(ops: Caller, acme: ManagementClient) -> None:
    """A range without an end goes on until today, where the organization's days begin."""
    for number, zone in enumerate(("Pacific/Kiritimati", "Pacific/Pago_Pago")):
        await new_organization(acme, ACME.replace("a", str(number)), zone, timezone=zone)
        began = (await used(ops, organization_id=zone))["day"]
        usage = await used(ops, organization_id=zone, **{"from": began})
        assert began <= usage["to"] <= (await used(ops, organization_id=zone))["day"]


async def test_days_come_in_pages(ops: Caller, at_new_year: ManagementClient) -> None:
    """Each day once; the sums are those of the whole range on every page."""
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await used(ops, **NEW_YEAR, by="day", limit=3, **cursor)
        assert page["allowed"] == 4321
        seen += [row["from"] for row in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == ["2025-12-30", "2025-12-31", "2026-01-01", "2026-01-02"]


async def test_the_longest_range(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """Three years of days, or their months; one day more is refused, with the longest range in the error."""
    first = today.before(DAYS_MAX - 1)
    await save(acme, ONE, first, allowed=1, revision=1)
    await save(acme, ONE, today.before(DAYS_MAX), allowed=10, revision=1)
    usage = await used(ops, **{"from": first}, by="month", limit=200)
    assert usage["allowed"] == sum(row["allowed"] for row in usage["items"]) == 1
    months = {Calendar().month_of(first + number * timedelta(days=1)) for number in range(DAYS_MAX)}
    assert len(usage["items"]) == len(months)
    answer = await ask(ops, organization_id="acme", **{"from": today.before(DAYS_MAX)})
    assert value(answer)["detail"] == "from: must be at most 1095 days before to (got 1096)"


async def test_ranges_that_are_refused(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """400 names the parameter that is to be changed."""
    tomorrow, yesterday = today.before(-2), today.before()
    next_month = (today.when.replace(day=1) + timedelta(days=32)).isoformat()[:7]
    for name, query in (
        ("from", {"from": today.when, "to": yesterday}),
        ("from", {"from": tomorrow}),
        ("from", {"from": "2026-02-30", "to": today.when}),
        ("from", {"from": "", "to": today.when}),
        ("from", {"from": "24h"}),
        ("from", {"from": "0001-01-01", "to": today.when}),
        ("from", {"from": yesterday, "day": today.when}),
        ("from", {"from": yesterday, "month": "2026-01"}),
        ("to", {"from": today.when, "to": tomorrow}),
        ("to", {"from": today.when, "to": "9999-12-31"}),
        ("to", {"from": today.when, "to": "today"}),
        ("to", {"to": today.when}),
        ("to", {"to": today.when, "month": "2026-01"}),
        ("month", {"month": next_month}),
        ("month", {"month": "9999-12"}),
        ("month", {"month": "2026-13"}),
        ("month", {"month": "2026-00"}),
        ("month", {"month": "0000-01"}),
        ("month", {"month": "2026-1"}),
        ("month", {"month": "2026-01-01"}),
        ("month", {"month": ""}),
        ("month", {"month": "2026-01", "day": today.when}),
        ("by", {"by": "week"}),
        ("by", {"by": ""}),
        ("cursor", {"from": yesterday, "by": "day", "cursor": ONE}),
        ("cursor", {"from": yesterday, "by": "key", "cursor": "2026-01-01"}),
        ("from_", {"from_": yesterday}),
    ):
        answer = await ask(ops, organization_id="acme", **query)
        assert (answer.status, code(answer), fields(answer)) == (400, "invalid_query", [name]), query
    twice = await ops("GET", f"/v1/usage?organization_id=acme&from={yesterday}&from={today.when}")
    assert (twice.status, fields(twice)) == (400, ["from"])


@pytest.mark.usefixtures("at_new_year")
def test_many_rows_are_found_by_the_index(database: str) -> None:
    """One scan of the primary key finds what an organization used, among many organizations and years."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed)"
            " SELECT md5(o::text)::uuid, md5(k::text)::uuid, date '2023-01-01' + d, 1"
            " FROM generate_series(1, 10) o, generate_series(1, 5) k, generate_series(0, 999) d"
        )
        connection.execute("ANALYZE usage_daily")
        period = {"id": ACME, "first": date(2025, 12, 30), "last": date(2026, 1, 2), "apart": [date(2026, 1, 2)]}
        for by_key in (True, False):
            explain = "EXPLAIN (FORMAT JSON) " + STATEMENTS["usage_of_period"].partition("\n")[2]
            ((plan,),) = connection.execute(explain.encode(), {**period, "by_key": by_key}).fetchall()
            assert json.dumps(plan).count("usage_daily_pkey") == 1
            assert '"Seq Scan"' not in json.dumps(plan)
