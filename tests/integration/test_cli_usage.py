"""`extauthz usage`, against real PostgreSQL and Redis: a day, a month, a range, by day, month and key."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from extauthz.backends.redis import keyspace
from extauthz.demo.ports import free_port
from tests.servers.shell import Here

PEPPER = "a pepper of the tests: 32 bytes or more"


@pytest.fixture
def here(tmp_path: Path, database: str, redis_url: str) -> Here:
    here = Here(tmp_path, {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"})
    here.json("orgs", "create", "acme")
    return here


def test_usage(here: Here) -> None:
    """Usage of today or of another day, as JSON and as text; the keys with the most usage come first."""
    today = datetime.now(UTC).date()
    one, two = (here.json("keys", "create", "acme", "--name", name) for name in ("one", "two"))
    with psycopg.connect(here.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed, cost, over_quota, revision)"
            " VALUES (%s, %s, %s, 3, 30, 2, 3), (%s, %s, '2026-01-31', 1, 1, 0, 1)",
            (one["organization_id"], one["id"], today, two["organization_id"], two["id"]),
        )
    day = f"d:{today:%Y%m%d}"
    counted = {"seeded": "0123456789ab", day: 70, f"{day}:{two['id']}": "40 4 4"}
    with Redis.from_url(here.environ["REDIS_URL"]) as redis:
        redis.hset(keyspace.tenant_limits(one["organization_id"]), mapping=counted)
    used = here.json("usage", "acme")
    sums = {"allowed": 7, "cost": 70, "rate_limited": 0, "over_quota": 2, "complete": True}
    assert {name: used[name] for name in sums} == sums
    assert used["remaining"] == {"daily": 9930, "monthly": None, "hourly": None}
    assert (used["day"], used["next"], len(used["items"])) == (today.isoformat(), None, 2)
    shown = here.run("usage", "acme").stdout
    for label, text in (
        ("cost", "70"),
        ("over quota", "2"),
        ("left today", "9930"),
        ("left this month", "no quota"),
        ("left this hour", "no quota"),
    ):
        assert re.search(rf"^{label} +{text}$", shown, re.MULTILINE)
    assert [line.split() for line in shown.splitlines()[-2:]] == [
        ["two", "4", "40", "0", "0"],
        ["one", "3", "30", "0", "2"],
    ]
    assert "left" not in here.run("usage", "acme", "--day", "2026-01-31").stdout
    past = here.json("usage", one["organization_id"], "--day", "2026-01-31")
    assert [(item["api_key_id"], item["cost"]) for item in past["items"]] == [(two["id"], 1)]
    nothing = here.run("usage", "acme", "--day", "2001-01-01")
    assert (nothing.returncode, nothing.stderr) == (0, "No key of it was used on that day.\n")
    assert "has not begun" in here.refused(2, "usage", "acme", "--day", "9999-12-31")
    assert "'nobody'" in here.refused(1, "usage", "nobody")


def test_an_hourly_quota(here: Here) -> None:
    """It is set for plans, organizations and keys, shown, taken back, and what is left of this hour is Redis's."""
    plan = here.json("plans", "create", "by the hour", "--rate", "10/s", "--burst", "20", "--hourly-quota", "50")
    assert (plan["hourly_quota"], plan["daily_quota"]) == (50, None)
    assert "50" in here.run("plans", "list").stdout
    here.json("orgs", "update", "acme", "--plan", "by the hour")
    assert re.search(r"^hourly quota +50 \(plan\)$", here.run("orgs", "show", "acme").stdout, re.MULTILINE)
    acme = here.json("orgs", "update", "acme", "--hourly-quota", "9", "--until", "30d")
    assert acme["hourly_quota"] == 9
    hour = int(datetime.now(UTC).timestamp()) // 3600 * 3600
    with Redis.from_url(here.environ["REDIS_URL"]) as redis:
        counts = f"{hour} 7 {hour + 3600} 7"
        redis.hset(keyspace.tenant_limits(acme["id"]), mapping={"seeded": "0123456789ab", "days": "", "hour": counts})
    assert here.json("usage", "acme")["remaining"]["hourly"] == 2
    back = here.json("orgs", "update", "acme", "--hourly-quota", "none")
    assert (back["hourly_quota"], back["until"]) == (None, None)
    key = here.json("keys", "create", "acme", "--hourly-quota", "1")
    assert here.json("keys", "update", key["id"], "--hourly-quota", "3")["hourly_quota"] == 3
    assert "--hourly-quota must be a whole number" in here.refused(
        2, "plans", "update", "by the hour", "--hourly-quota", "-1"
    )


def test_usage_without_redis(here: Here) -> None:
    """While Redis is away, what is saved is shown, and a warning beside it says what is missing."""
    warning = "extauthz: warning: usage of the last seconds is missing, because Redis is away\n"
    away = f"redis://127.0.0.1:{free_port()}"
    done = here.run("usage", "acme", "--json", REDIS_URL=away)
    assert (done.returncode, done.stderr) == (0, warning)
    assert json.loads(done.stdout)["complete"] is False
    assert here.run("usage", "acme", REDIS_URL=away).stderr.endswith(warning)


def test_usage_of_a_range(here: Here) -> None:
    """Days, months or keys of a range, with the sums over them; lines of text have at most 80 columns."""
    ids = [here.json("keys", "create", "acme", "--name", name)["id"] for name in ("reports", "ci", "ci")]
    organization = here.json("orgs", "show", "acme")["id"]
    gone = "11110000-0000-4000-8000-000000000000"
    counts = [
        (ids[0], "2025-12-31", 1_000_000),
        (ids[1], "2026-01-01", 2),
        (ids[2], "2026-01-01", 3),
        (gone, "2026-01-01", 4),
    ]
    with psycopg.connect(here.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.cursor().executemany(
            "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed, cost, revision)"
            " VALUES (%s, %s, %s, %s, %s, 1)",
            [(organization, key_id, day, times, times) for key_id, day, times in counts],
        )
    days = ("--from", "2025-12-30", "--to", "2026-01-02")
    used = here.json("usage", "acme", *days, "--by", "day")
    assert (used["from"], used["to"], used["cost"], used["next"]) == ("2025-12-30", "2026-01-02", 1_000_009, None)
    assert [row["cost"] for row in used["items"]] == [0, 1_000_000, 9, 0]
    assert [row["from"] for row in here.json("usage", "acme", *days, "--by", "month")["items"]] == [
        "2025-12-30",
        "2026-01-01",
    ]
    assert here.json("usage", "acme", "--month", "2025-12") == here.json(
        "usage", "acme", "--from", "2025-12-01", "--to", "2025-12-31", "--by", "key"
    )
    shown = [here.run("usage", "acme", *days, "--by", by).stdout.splitlines() for by in ("day", "month", "key")]
    assert [lines[0] for lines in shown] == [f"organization  acme ({organization})"] * 3
    assert [lines[1:7] for lines in shown] == [
        [
            "from          2025-12-30",
            "to            2026-01-02",
            "allowed       1000009",
            "cost          1000009",
            "rate limited  0",
            "over quota    0",
        ]
    ] * 3
    assert shown[0][8:] == [
        "DAY         ALLOWED  COST     RATE LIMITED  OVER QUOTA",
        "2025-12-30  0        0        0             0",
        "2025-12-31  1000000  1000000  0             0",
        "2026-01-01  9        9        0             0",
        "2026-01-02  0        0        0             0",
    ]
    assert [line.split()[:3] for line in shown[1][8:]] == [
        ["FROM", "TO", "ALLOWED"],
        ["2025-12-30", "2025-12-31", "1000000"],
        ["2026-01-01", "2026-01-02", "9"],
    ]
    assert [line.split("  ")[0] for line in shown[2][8:]] == [
        "KEY",
        "reports",
        gone,
        f"ci ({ids[2][:8]})",
        f"ci ({ids[1][:8]})",
    ]
    assert max(len(line) for lines in shown for line in lines) <= 80
    nothing = here.run("usage", "acme", "--month", "2001-01")
    assert (nothing.returncode, nothing.stderr) == (0, "No key of it was used in that time.\n")


def test_what_is_left_belongs_to_today(here: Here) -> None:
    """The text shows it where today is among the days."""
    today = datetime.now(UTC).date()
    yesterday = str(today - timedelta(days=1))
    for options, said in (
        (("--day", str(today)), True),
        (("--from", yesterday), True),
        (("--month", f"{today:%Y-%m}", "--by", "day"), True),
        (("--from", yesterday, "--to", yesterday), False),
    ):
        assert ("left today" in here.run("usage", "acme", *options).stdout) == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--day", "2026-01-01", "--month", "2026-01"), "month must not be given together with day"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), "from must not be after to (got 2026-01-02 and 2026-01-01)"),
        (("--from", "2026-02-30"), "--from must be a valid date (got '2026-02-30')"),
        (("--to", "2026-01-01"), "to must be given together with from alone"),
        (("--month", "2026-13"), "--month must be a year from 0001 and a month from 01 to 12 (got '2026-13')"),
        (("--month", "January"), "--month must be a month like 2030-01 (got 'January')"),
        (("--from", "2000-01-01", "--to", "2020-01-01"), "from must be at most 1095 days before to (got 7305)"),
        (("--by", "week"), "'week' is not one of 'day', 'month', 'key'"),
    ],
)
def test_ranges_that_are_refused(here: Here, options: tuple[str, ...], said: str) -> None:
    """One line says which option is to be changed."""
    assert said in here.refused(2, "usage", "acme", *options)
