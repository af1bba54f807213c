"""Limits by commands, against real PostgreSQL and Redis: an organization's own, until when, and what was used."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.servers.shell import Here

PEPPER = "a pepper of the tests: 32 bytes or more"
LATER = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)
LATER_TEXT = f"{LATER:%Y-%m-%dT%H:%M:%SZ}"
ROUTES = """
[[routes]]
path = "/public/**"
public = true

[[routes]]
path = "/api/v1/reports/**"
resource = "report"
cost = 10

[[routes]]
path = "/api/v1/tried/**"
resource = "tried"
cost = 1000
limits = "shadow"
"""
TOO_SMALL = (
    "extauthz: warning: burst {} is below the cost 10 of the route /api/v1/reports/**:"
    " its requests will be refused as cost_exceeds_limit\n"
)


@pytest.fixture
def here(tmp_path: Path, database: str, redis_url: str) -> Here:
    folder = tmp_path / "a folder"
    folder.mkdir()
    here = Here(folder, {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"})
    here.json("orgs", "create", "acme")
    return here


@contextmanager
def sql(here: Here) -> Iterator[psycopg.Connection]:
    """Runs a statement as any client of the database could."""
    with psycopg.connect(here.environ["DATABASE_URL"], autocommit=True) as connection:
        yield connection


def test_calendar_and_end_of_own_limits(here: Here) -> None:
    """Calendar, mode and the end of own limits are set, shown, and cleared or set back."""
    acme = here.json("orgs", "show", "acme")
    assert (acme["until"], acme["limits_mode"], acme["timezone"], acme["anchor"]) == (None, "enforce", "UTC", 1)
    options = ("--burst", "200", "--until", LATER_TEXT, "--timezone", "Europe/Berlin", "--anchor", "15")
    changed = here.json("orgs", "update", "acme", *options, "--limits", "shadow")
    assert datetime.fromisoformat(changed["until"]) == LATER
    ours = {"burst": 200, "limits_mode": "shadow", "timezone": "Europe/Berlin", "anchor": 15}
    assert {name: changed[name] for name in ours} == ours
    assert here.json("orgs", "list") == [changed]
    shown = here.run("orgs", "show", "acme").stdout
    for label, text in (
        ("burst", "200 (own)"),
        ("own until", LATER_TEXT),
        ("timezone", "Europe/Berlin"),
        ("anchor", "15"),
    ):
        assert re.search(rf"^{label} +{re.escape(text)}$", shown, re.MULTILINE)
    settings = f"--burst 200 --until {LATER_TEXT} --limits shadow --timezone Europe/Berlin --anchor 15"
    assert here.run("orgs", "list").stdout.splitlines()[1].endswith(f"  active  {settings}")
    back = ("--until", "none", "--burst", "none", "--timezone", "UTC", "--anchor", "1", "--limits", "enforce")
    same = ("version", "updated_at")
    assert here.json("orgs", "update", "acme", *back) | {name: acme[name] for name in same} == acme
    assert "own until" not in here.run("orgs", "show", "acme").stdout


def test_the_first_calendar(here: Here) -> None:
    """Given at creation it holds from the start; a later one is shown with the moment from which it holds."""
    made = here.json("orgs", "create", "other", "--timezone", "Asia/Tokyo", "--anchor", "15")
    assert {name: made[name] for name in ("timezone", "anchor", "timezone_from", "anchor_from")} == {
        "timezone": "Asia/Tokyo",
        "anchor": 15,
        "timezone_from": None,
        "anchor_from": None,
    }
    assert "--anchor" in here.refused(2, "orgs", "create", "third", "--anchor", "32")
    assert "did you mean Asia/Tokyo?" in here.refused(2, "orgs", "create", "third", "--timezone", "asia/tokyo")
    with sql(here) as connection:
        connection.execute(
            "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed, cost)"
            " VALUES (%s, %s, '2026-01-31', 1, 1)",
            [made["id"], made["id"]],
        )
    changed = here.json("orgs", "update", "other", "--timezone", "UTC", "--anchor", "1")
    shown = here.run("orgs", "show", "other").stdout
    for name, text in (("timezone", "UTC"), ("anchor", "1")):
        since = f"{datetime.fromisoformat(changed[f'{name}_from']):%Y-%m-%dT%H:%M:%SZ}"
        assert re.search(rf"^{name} +{text} \(from {since} on\)$", shown, re.MULTILINE)


def test_an_end_of_no_limits(here: Here) -> None:
    """An organization without limits of its own cannot have an end of them."""
    said = here.refused(2, "orgs", "update", "acme", "--until", LATER_TEXT)
    assert "until is the end of an organization's own limits, and it has none" in said


def test_an_override_that_prevents_a_change_of_its_plan(here: Here) -> None:
    """The error names the organization whose override does not fit the change of the plan."""
    here.json("plans", "create", "gold", "--rate", "1", "--burst", "5")
    here.json("orgs", "create", "umbrella", "--plan", "gold")
    here.json("orgs", "update", "umbrella", "--burst", "7")
    said = here.refused(1, "plans", "update", "gold", "--rate", "none", "--burst", "none")
    assert said.endswith("organizations override half of this plan's bucket; clear that first: umbrella")


def test_own_limits_that_are_over(here: Here) -> None:
    """From their end on an organization is shown with what its plan gives it."""
    here.json("orgs", "update", "acme", "--burst", "200", "--until", LATER_TEXT)
    with sql(here) as connection:
        connection.execute("UPDATE organizations SET overrides_until = '2026-01-01T00:00:00Z'")
    shown = here.run("orgs", "show", "acme").stdout
    assert re.search(r"^burst +20 \(plan\)$", shown, re.MULTILINE)
    assert re.search(r"^own until +2026-01-01T00:00:00Z \(over\)$", shown, re.MULTILINE)


def test_refused_calendars(here: Here) -> None:
    """A time in the past and an unknown zone are refused in one line; a similar name is suggested."""
    assert "in the past" in here.refused(2, "orgs", "update", "acme", "--until", "2020-01-01T00:00:00Z")
    said = here.refused(2, "orgs", "update", "acme", "--timezone", "europe/berlin")
    assert said.endswith("did you mean Europe/Berlin?")
    assert "timezone" in here.refused(2, "orgs", "update", "acme", "--timezone", "none")


def test_a_burst_that_no_request_fits(here: Here) -> None:
    """A burst below the cost of a route is answered with a warning; a route in shadow mode refuses nothing."""
    (here.folder / "extauthz.toml").write_text(ROUTES)
    here.environ["EXTAUTHZ_CONFIG"] = "extauthz.toml"
    key_id = here.json("keys", "create", "acme")["id"]
    for number, command in (
        (9, ("plans", "create", "small", "--rate", "1", "--burst", "9")),
        (8, ("plans", "update", "small", "--burst", "8")),
        (8, ("orgs", "create", "tiny", "--plan", "small")),
        (7, ("orgs", "update", "tiny", "--burst", "7")),
        (6, ("keys", "create", "acme", "--rate", "1", "--burst", "6")),
        (5, ("keys", "update", key_id, "--rate", "1", "--burst", "5")),
    ):
        done = here.run(*command, "--json")
        assert (done.returncode, done.stderr) == (0, TOO_SMALL.format(number)), command
        assert json.loads(done.stdout)["id"]
    for fine in (
        ("plans", "create", "large", "--rate", "1", "--burst", "10"),
        ("plans", "create", "endless", "--rate", "none", "--burst", "none"),
        ("orgs", "update", "tiny", "--limits", "shadow"),
        ("orgs", "update", "tiny", "--limits", "enforce", "--plan", "large", "--burst", "none"),
        ("keys", "update", key_id, "--rate", "none", "--burst", "none"),
        ("plans", "show", "small"),
    ):
        here.json(*fine)
    (here.folder / "extauthz.toml").write_text(ROUTES + '[[routes]]\npath = "/dear"\nresource = "dear"\ncost = 11\n')
    said = here.run("plans", "update", "small", "--burst", "7").stderr
    assert "burst 7 is below the cost 11 of the route /dear and 1 more: their requests" in said


def test_a_quota_that_no_request_fits(here: Here) -> None:
    """A quota of a day or month below the cost of a route, or 0, is answered with the same warning, for each limit."""
    (here.folder / "extauthz.toml").write_text(ROUTES)
    here.environ["EXTAUTHZ_CONFIG"] = "extauthz.toml"
    key_id = here.json("keys", "create", "acme")["id"]
    rate = ("--rate", "none", "--burst", "none")
    for said, command in (
        ("daily quota 9", ("plans", "create", "small", *rate, "--daily-quota", "9")),
        ("daily quota 0", ("plans", "update", "small", "--daily-quota", "0")),
        ("daily quota 0", ("orgs", "create", "tiny", "--plan", "small")),
        ("monthly quota 8", ("orgs", "update", "tiny", "--daily-quota", "10", "--monthly-quota", "8")),
        ("daily quota 7", ("keys", "create", "acme", "--daily-quota", "7")),
        ("monthly quota 0", ("keys", "update", key_id, "--monthly-quota", "0")),
    ):
        done = here.run(*command, "--json")
        assert (done.returncode, done.stderr) == (0, TOO_SMALL.format("").replace("burst ", said)), command
    both = here.run("plans", "update", "small", "--monthly-quota", "3").stderr
    assert [line.split(" is below")[0] for line in both.splitlines()] == [
        "extauthz: warning: daily quota 0",
        "extauthz: warning: monthly quota 3",
    ]
    here.json("orgs", "update", "tiny", "--monthly-quota", "10")
