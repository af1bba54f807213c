"""What an organization has used, by `GET /v1/usage` on real servers: saved, counted since, and what is left."""

from datetime import datetime
from zoneinfo import ZoneInfo

from extauthz.demo.redis import Redis as RedisServer
from tests.servers.admin_api import Caller, code, fields, value
from tests.servers.fixtures import stopped
from tests.servers.management_client import ManagementClient
from tests.servers.raw_http import ask as ask_check
from tests.servers.serving import PATIENT, question
from tests.servers.serving import serving as serving_checks
from tests.servers.usage_reports import (
    ACME,
    HASH,
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


async def test_charges_are_reported_at_once(ops: Caller, acme: ManagementClient, database: str, redis_url: str) -> None:
    """Charges are in the report at once, whether or not they are saved already."""
    keys = [await acme.new_key("acme") for _ in range(2)]
    async with serving_checks(database, redis_url, **PATIENT) as service:
        for _, key in (keys[0], keys[0], keys[1]):
            answer = await ask_check(service.ports["envoy"], question("envoy", key=key))
            assert answer.decision == "allow"
        usage = await used(ops)
    assert (usage["allowed"], usage["cost"]) == (3, 3)
    assert usage["remaining"] == {"daily": 997, "monthly": 4997, "hourly": None}
    assert {item["api_key_id"]: item["allowed"] for item in usage["items"]} == {keys[0][0].id: 2, keys[1][0].id: 1}


async def test_what_is_saved_and_what_was_counted_since(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """Of each key the newer of both counts, once; refusals as they are saved; what is left by Redis's counters."""
    await save(acme, ONE, allowed=5, cost=50, rate_limited=1, revision=5)
    await save(acme, TWO, allowed=3, cost=30, over_quota=2, revision=3)
    counted = {f"{today.field}:{ONE}": "70 7 7", f"{today.field}:{TWO}": "20 2 2", f"{today.field}:{THREE}": "1 1 1"}
    others = {
        "seeded": "0123456789ab",
        "days": f"{today.when:%Y%m%d}",
        f"d:20200101:{ONE}": "9 9 9",
        f"{today.month}:{ONE}": 70,
    }
    await count(acme, {**counted, **others, today.field: 101, today.month: 601})
    gone = {**today.dates, "api_key_name": None}
    assert await used(ops) == {
        "organization_id": ACME,
        "day": today.when.isoformat(),
        **today.dates,
        "allowed": 11,
        "cost": 101,
        "rate_limited": 1,
        "over_quota": 2,
        "remaining": {"daily": 899, "monthly": 4399, "hourly": None},
        "complete": True,
        "by": "key",
        "items": [
            {"api_key_id": ONE, **gone, "allowed": 7, "cost": 70, "rate_limited": 1, "over_quota": 0},
            {"api_key_id": TWO, **gone, "allowed": 3, "cost": 30, "rate_limited": 0, "over_quota": 2},
            {"api_key_id": THREE, **gone, "allowed": 1, "cost": 1, "rate_limited": 0, "over_quota": 0},
        ],
        "next": None,
    }


async def test_counters_that_began_without_postgresql(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """Where Redis lost its data while PostgreSQL was away, its counts since then are added to what is saved."""
    await save(acme, ONE, allowed=5, cost=50, revision=5)
    await save(acme, TWO, allowed=3, cost=30, revision=3)
    began_with = {f"was:{today.field}:{TWO}": "40 4 4", f"was:{today.field}": 40, f"was:{today.month}": 40}
    counted = {f"{today.field}:{ONE}": "10 1 1", f"{today.field}:{TWO}": "45 5 5", today.field: 55, today.month: 55}
    await count(acme, {"seeded": "0123456789ab?", **began_with, **counted})
    usage = await used(ops)
    assert [(item["cost"], item["allowed"]) for item in usage["items"]] == [(60, 6), (45, 5)]
    assert (usage["cost"], usage["complete"]) == (105, True)
    assert usage["remaining"] == {"daily": 1000 - 80 - 15, "monthly": 5000 - 80 - 15, "hourly": None}


async def test_redis_has_lost_its_counters(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """Without the organization's hash, or with another type in its place, the report has what is saved."""
    await save(acme, ONE, allowed=5, cost=50, revision=5)
    await save(acme, ONE, today.before(), allowed=1, cost=2000, revision=1)
    before = await used(ops)
    assert (before["allowed"], before["cost"], before["complete"]) == (5, 50, True)
    assert before["remaining"]["daily"] == 950
    await acme.redis.set(HASH, "something else")
    assert await used(ops) == before
    await acme.redis.delete(HASH)
    await count(
        acme, {"seeded": "0123456789ab", today.field: "-5", today.month: "x", f"{today.field}:{ONE}": "1 nan 9"}
    )
    assert await used(ops) == before


async def test_without_redis(ops: Caller, acme: ManagementClient, redis_server: RedisServer) -> None:
    """While Redis is away, saved usage is returned, marked as incomplete."""
    await save(acme, ONE, allowed=5, cost=50, revision=5)
    with stopped(redis_server):
        usage = await used(ops)
    assert (usage["cost"], usage["complete"], usage["remaining"]["daily"]) == (50, False, 950)


async def test_a_day_in_the_past(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """Yesterday is reported with what Redis still has of it; balances are those of now. Earlier days are zero."""
    await save(acme, ONE, today.before(), allowed=5, cost=50, rate_limited=4, revision=5)
    await save(acme, TWO, allowed=1, cost=100, revision=1)
    await count(acme, {"seeded": "0123456789ab", f"{Day(today.before()).field}:{ONE}": "51 6 6"})
    usage = await used(ops, day=today.before())
    assert (usage["day"], usage["cost"], usage["allowed"], usage["rate_limited"]) == (
        today.before().isoformat(),
        51,
        6,
        4,
    )
    assert usage["remaining"]["daily"] == 900
    for day in ("2001-02-03", "0001-01-01"):
        nothing = await used(ops, day=day)
        assert (nothing["day"], nothing["allowed"], nothing["items"]) == (day, 0, [])


async def test_days_and_months_are_its_own(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """Today is today where the organization's days begin; its month is the one that its anchor begins."""
    for number, zone in enumerate(("Pacific/Kiritimati", "Pacific/Pago_Pago")):
        await new_organization(acme, ACME.replace("a", str(number)), zone, timezone=zone)
        began = datetime.now(ZoneInfo(zone)).date()
        day = (await used(ops, organization_id=zone))["day"]
        assert began.isoformat() <= day <= datetime.now(ZoneInfo(zone)).date().isoformat()
    await acme.sql("DELETE FROM organizations WHERE id = %s", ACME)
    await new_organization(acme, ACME, "acme", anchor=today.before().day)
    for days, cost in ((0, 1), (1, 10), (2, 100)):
        await save(acme, ONE, today.before(days), cost=cost, revision=1)
    assert (await used(ops))["remaining"]["monthly"] == 5000 - 11


async def test_no_quota_and_too_small_a_one(ops: Caller, acme: ManagementClient) -> None:
    """Null means that no quota is set; of a quota that is lower than what was used, nothing is left."""
    await save(acme, ONE, cost=70, revision=1)
    for quota, left in ((None, None), (69, 0), (0, 0), (71, 1)):
        await acme.tenants.update_plan("gold", {"daily_quota": quota})
        assert (await used(ops))["remaining"]["daily"] == left


async def test_its_own_limits_are_over(ops: Caller, acme: ManagementClient) -> None:
    """From their end on, what is left is left of the plan's quota."""
    await acme.tenants.update_organization("acme", {"daily_quota": 7})
    assert (await used(ops))["remaining"]["daily"] == 7
    await acme.sql("UPDATE organizations SET overrides_until = now() - interval '1 second'")
    assert (await used(ops))["remaining"]["daily"] == 1000


async def test_keys_come_in_pages(ops: Caller, acme: ManagementClient) -> None:
    """Each key once, in the order of their ids; the sums are those of all keys on every page."""
    for key_id in (THREE, ONE, TWO):
        await save(acme, key_id, allowed=1, cost=1, revision=1)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await used(ops, limit=2, **cursor)
        seen += [item["api_key_id"] for item in page["items"]]
        assert page["cost"] == 3
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [ONE, TWO, THREE]


async def test_invalid_parameters_are_refused(ops: Caller, acme: ManagementClient, today: Day) -> None:
    """400 names the parameter: an invalid day or one that has not begun, no organization, a forged cursor."""
    tomorrow = today.before(-2)
    days = ("", "tomorrow", "2026-13-01", "2026-02-30", "20260101", "2026-1-1", "2026-W01-1", tomorrow, "9999-12-31")
    wrong = [("day", day) for day in days] + [("cursor", text) for text in ("x", "", "bm9uc2Vuc2U=")] + [("limit", 0)]
    for name, text in wrong:
        answer = await ask(ops, organization_id="acme", **{name: text})
        assert (answer.status, code(answer), fields(answer)) == (400, "invalid_query", [name]), text
    assert "has not begun" in value(await ask(ops, organization_id="acme", day=tomorrow))["detail"]
    without = await ask(ops, day=today.when)
    assert (without.status, fields(without)) == (400, ["organization_id"])
    assert (await ask(ops, organization_id="nobody")).status == 404
