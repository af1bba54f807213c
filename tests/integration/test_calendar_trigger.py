"""What the trigger keeps when a time zone or an anchor is changed: no day and no month begins twice."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from time import monotonic

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors as pg
from psycopg.rows import dict_row

from extauthz.core.calendar import Calendar
from extauthz.demo.postgres import Postgres
from tests.generated import examples
from tests.servers.fixtures import new_database

ROW = """SELECT timezone, anchor, timezone_before, last_day::text, anchor_before, next_month::text FROM organizations"""
KEPT = ("timezone_before", "last_day", "anchor_before", "next_month")


class Clocked:
    """A database with one organization, whose trigger reads the clock of the test."""

    def __init__(self, connection: psycopg.Connection[dict[str, object]]) -> None:
        self.connection = connection

    def begin(self, timezone: str = "UTC", anchor: int = 1) -> None:
        """The organization has always counted like that, and was charged."""
        self.create(timezone, anchor)
        self.charge()

    def create(self, timezone: str = "UTC", anchor: int = 1) -> None:
        """The organization was never charged."""
        self.connection.execute("DELETE FROM organizations")
        self.connection.execute(
            "INSERT INTO organizations (name, plan_id, timezone, anchor) SELECT 'acme', id, %s, %s FROM plans",
            [timezone, anchor],
        )

    def charge(self, *, allowed: int = 1, over_quota: int = 0) -> None:
        """A key of it was charged, or only refused."""
        self.connection.execute(
            "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed, cost, over_quota, revision)"
            " SELECT id, gen_random_uuid(), '2026-01-01', %s, %s, %s, 1 FROM organizations",
            [allowed, allowed, over_quota],
        )

    def change(self, at: datetime, *, timezone: str | None = None, anchor: int | None = None) -> Calendar:
        """The calendar after a change at that time."""
        self.connection.execute("SELECT set_config('extauthz.now', %s, false)", [at.isoformat()])
        self.connection.execute(
            "UPDATE organizations SET timezone = coalesce(%s, timezone), anchor = coalesce(%s, anchor)",
            [timezone, anchor],
        )
        return Calendar.from_record(self.row())

    def row(self) -> dict[str, object]:
        row = self.connection.execute(ROW).fetchone()
        assert row is not None
        return row

    def kept(self) -> tuple[object, ...]:
        """The columns of the trigger: zone before and its last day, anchor before and the month after it."""
        row = self.row()
        return tuple(row[name] for name in KEPT)


@pytest.fixture(scope="module")
def clocked(postgres_server: Postgres, migrated: str) -> Iterator[Clocked]:
    with (
        new_database(postgres_server, template=migrated) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection,
    ):
        name = {"f": "extauthz_keep_calendar"}
        (row,) = connection.execute("SELECT pg_get_functiondef(%(f)s::regproc) AS definition", name).fetchall()
        assert row["definition"].count("clock_timestamp()") == 1
        ours = row["definition"].replace("clock_timestamp()", "current_setting('extauthz.now')::timestamptz")
        connection.execute(ours.encode())
        connection.execute("SET extauthz.now = '2026-01-01Z'")
        yield Clocked(connection)


def at(text: str) -> datetime:
    """A time in UTC, as `2026-11-22 10:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def begins(calendar: Calendar, day: str) -> str:
    """When a day begins, in UTC."""
    return f"{datetime.fromtimestamp(calendar.starts(date.fromisoformat(day)), UTC):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("zone", "next_day", "day_after"),
    [
        ("Asia/Tokyo", "2026-11-23 00:00", "2026-11-23 15:00"),
        ("America/New_York", "2026-11-23 05:00", "2026-11-24 05:00"),
        ("Pacific/Kiritimati", "2026-11-23 00:00", "2026-11-23 10:00"),
        ("Etc/GMT+12", "2026-11-23 12:00", "2026-11-24 12:00"),
    ],
)
def test_the_day_under_way_ends_where_both_zones_are_past_it(
    clocked: Clocked, zone: str, next_day: str, day_after: str
) -> None:
    """To the east the day ends as it would have, and the next is short; to the west it is longer."""
    clocked.begin()
    calendar = clocked.change(at("2026-11-22 10:00"), timezone=zone)
    assert clocked.kept() == ("UTC", "2026-11-22", None, None)
    shown = [begins(calendar, f"2026-11-{day}") for day in (22, 23, 24)]
    assert shown == ["2026-11-22 00:00", next_day, day_after]


def test_nothing_was_charged_yet(clocked: Clocked) -> None:
    """The first calendar holds at once, however often it is changed; after the first charge a change holds later."""
    clocked.create()
    calendar = clocked.change(at("2026-11-22 10:00"), timezone="Asia/Tokyo", anchor=15)
    assert clocked.kept() == (None, None, None, None)
    assert calendar.month_of(date(2026, 11, 22)) == (date(2026, 11, 15), date(2026, 12, 15))
    clocked.charge(allowed=0, over_quota=3)  # refused, and not charged
    clocked.change(at("2026-11-22 11:00"), timezone="America/New_York", anchor=31)
    assert clocked.kept() == (None, None, None, None)
    clocked.charge()
    clocked.change(at("2026-11-22 12:00"), timezone="UTC", anchor=1)
    assert clocked.kept() == ("America/New_York", "2026-11-22", 31, "2026-11-30")
    assert calendar.in_force_from() == {"timezone_from": None, "anchor_from": None}


def test_from_when_a_calendar_holds(clocked: Clocked) -> None:
    """The answer has the first moment counted by the new zone, and that of the first month by the new anchor."""
    clocked.begin()
    calendar = clocked.change(at("2026-11-22 10:00"), timezone="America/New_York", anchor=15)
    assert calendar.in_force_from() == {"timezone_from": at("2026-11-23 05:00"), "anchor_from": at("2026-12-01 05:00")}


@pytest.mark.parametrize(
    ("first", "again_at", "second"),
    [
        ("Asia/Tokyo", "2026-11-22 12:00", "America/New_York"),
        ("Asia/Tokyo", "2026-11-22 20:00", "America/New_York"),  # in Tokyo it is the 23rd
        ("Asia/Tokyo", "2026-11-22 23:59", "UTC"),
        ("America/New_York", "2026-11-23 04:59", "Asia/Tokyo"),  # in UTC it is the 23rd
        ("America/New_York", "2026-11-23 04:59", "UTC"),
    ],
)
def test_two_changes_of_zone_in_a_day(clocked: Clocked, first: str, again_at: str, second: str) -> None:
    """While the first change is not in force, another one changes what follows, and not the day under way."""
    clocked.begin()
    clocked.change(at("2026-11-22 10:00"), timezone=first)
    calendar = clocked.change(at(again_at), timezone=second)
    assert (calendar.timezone, clocked.kept()) == (second, ("UTC", "2026-11-22", None, None))


def test_a_change_after_one_that_is_in_force(clocked: Clocked) -> None:
    """The day under way is one of the zone that is in force."""
    clocked.begin()
    clocked.change(at("2026-11-22 10:00"), timezone="America/New_York")
    clocked.change(at("2026-11-23 05:00"), timezone="UTC")
    assert clocked.kept() == ("America/New_York", "2026-11-23", None, None)
    clocked.begin()
    clocked.change(at("2026-11-22 10:00"), timezone="Asia/Tokyo")
    clocked.change(at("2026-11-23 15:00"), timezone="UTC")
    assert clocked.kept() == ("Asia/Tokyo", "2026-11-24", None, None)


@pytest.mark.parametrize(
    ("anchor", "today", "next_month"),
    [
        (1, "2026-11-22", "2026-12-01"),
        (1, "2026-12-31", "2027-01-01"),
        (1, "2026-11-01", "2026-12-01"),
        (15, "2026-11-14", "2026-11-15"),
        (15, "2026-11-15", "2026-12-15"),
        (31, "2026-11-22", "2026-11-30"),
        (31, "2026-11-30", "2026-12-31"),
        (31, "2027-02-10", "2027-02-28"),
        (31, "2027-02-28", "2027-03-31"),
        (31, "2028-02-10", "2028-02-29"),
        (30, "2027-01-31", "2027-02-28"),
        (29, "2028-01-31", "2028-02-29"),
    ],
)
def test_the_month_under_way_ends_as_it_would_have(clocked: Clocked, anchor: int, today: str, next_month: str) -> None:
    """On the old anchor's next day; in a shorter month that is its last."""
    clocked.begin(anchor=anchor)
    calendar = clocked.change(at(f"{today} 10:00"), anchor=5)
    assert clocked.kept() == (None, None, anchor, next_month)
    assert calendar.month_of(date.fromisoformat(today))[1] == date.fromisoformat(next_month)
    assert calendar.month_of(date.fromisoformat(next_month))[0] == date.fromisoformat(next_month)


def test_two_changes_of_anchor_in_a_month(clocked: Clocked) -> None:
    """While the first change is not in force, another one changes what follows, and not the month under way."""
    clocked.begin(anchor=31)
    clocked.change(at("2027-02-10 10:00"), anchor=5)
    clocked.change(at("2027-02-27 23:59"), anchor=10)
    assert clocked.kept() == (None, None, 31, "2027-02-28")
    clocked.change(at("2027-03-10 00:00"), anchor=20)
    assert clocked.kept() == (None, None, 10, "2027-04-10")


def test_an_anchor_in_the_short_month_after_a_change(clocked: Clocked) -> None:
    """That month, too, keeps its first date and its end."""
    clocked.begin(anchor=10)
    clocked.change(at("2027-02-20 10:00"), anchor=20)
    calendar = clocked.change(at("2027-03-15 10:00"), anchor=5)
    assert calendar.month_of(date(2027, 3, 15)) == (date(2027, 3, 10), date(2027, 3, 20))
    assert calendar.month_of(date(2027, 3, 20)) == (date(2027, 3, 20), date(2027, 4, 5))


def test_today_is_a_day_of_the_organization(clocked: Clocked) -> None:
    """The organization's calendar decides whether a month is over, also on a day that a change of zone made longer."""
    clocked.begin("Asia/Tokyo")
    clocked.change(at("2026-11-30 15:00"), anchor=15)
    assert clocked.kept() == (None, None, 1, "2027-01-01")
    clocked.begin()
    clocked.change(at("2026-11-30 10:00"), timezone="America/New_York")
    clocked.change(at("2026-12-01 04:59"), anchor=15)
    assert clocked.kept() == ("UTC", "2026-11-30", 1, "2026-12-01")
    clocked.begin()
    clocked.change(at("2026-11-30 10:00"), timezone="Asia/Tokyo", anchor=15)
    assert clocked.kept() == ("UTC", "2026-11-30", 1, "2026-12-01")


ZONES = ["UTC", "Asia/Tokyo", "America/New_York", "Pacific/Apia", "Pacific/Pago_Pago", "America/Havana", "Asia/Beirut"]
STEPS = st.lists(
    st.tuples(st.integers(0, 60 * 24 * 40), st.none() | st.sampled_from(ZONES), st.none() | st.integers(1, 31)),
    min_size=1,
    max_size=6,
)


@examples(20, 500)
@given(zone=st.sampled_from(ZONES), anchor=st.integers(1, 31), steps=STEPS, start=st.integers(0, 365 * 24))
def test_no_change_touches_what_is_under_way(
    clocked: Clocked, zone: str, anchor: int, steps: list[tuple[int, str | None, int | None]], start: int
) -> None:
    """Whatever is changed whenever, no day comes back, and the month under way keeps its first date and its end."""
    clocked.begin(zone, anchor)
    calendar = Calendar(zone, anchor)
    now = at("2026-01-01 00:00") + timedelta(hours=start)
    for minutes, new_zone, new_anchor in steps:
        day = calendar.day_at(now.timestamp())
        now += timedelta(minutes=minutes)
        before, calendar = calendar, clocked.change(now, timezone=new_zone, anchor=new_anchor)
        today = before.day_at(now.timestamp())
        assert calendar.day_at(now.timestamp()) >= today >= day
        assert calendar.month_of(today) == before.month_of(today)


def test_columns_of_the_trigger_cannot_be_written(clocked: Clocked) -> None:
    """An INSERT or UPDATE of the columns that the trigger keeps is ignored, and does not count as a change."""
    clocked.connection.execute("DELETE FROM organizations")
    clocked.connection.execute(
        "INSERT INTO organizations (name, plan_id, timezone_before, last_day, anchor_before, next_month)"
        " SELECT 'acme', id, 'Asia/Tokyo', '2026-11-22', 7, '2026-12-07' FROM plans"
    )
    assert clocked.kept() == (None, None, None, None)
    clocked.connection.execute("UPDATE organizations SET last_day = '2026-11-22', anchor_before = 7")
    assert clocked.kept() == (None, None, None, None)
    assert clocked.connection.execute("SELECT row_version FROM organizations").fetchall() == [{"row_version": 1}]


def test_an_unknown_time_zone_is_refused(clocked: Clocked) -> None:
    """It is refused in SQL too; the organization counts as before, and its other columns may still be changed."""
    clocked.begin("Asia/Tokyo")
    for name in ("Europe/Atlantis", "asia/tokyo", "JST", "posix/Asia/Tokyo", "UTC+9", "Factory", ""):
        with pytest.raises(pg.CheckViolation) as refused:
            clocked.change(at("2026-11-22 10:00"), timezone=name)
        assert refused.value.diag.constraint_name == "organizations_timezone_valid"
    clocked.connection.execute(
        "UPDATE organizations SET limits = 'shadow', daily_quota = 5, overrides_until = '2030-01-01Z'"
    )
    assert (clocked.row()["timezone"], clocked.kept()) == ("Asia/Tokyo", (None, None, None, None))


def test_every_row_of_a_statement_is_checked(clocked: Clocked) -> None:
    """One wrong name among many rows refuses them all, in an INSERT, an UPDATE and one that is both."""
    clocked.begin()
    zone = "CASE n WHEN 40 THEN 'Europe/Atlantis' ELSE 'Asia/Tokyo' END"
    rows = f"SELECT 'org ' || n, id, {zone} FROM plans, generate_series(1, 50) n"
    insert = f"INSERT INTO organizations (name, plan_id, timezone) {rows}"
    for statement in (
        insert,
        f"{insert} ON CONFLICT (name) DO UPDATE SET timezone = excluded.timezone",
        f"WITH n AS (SELECT 40 AS n) UPDATE organizations SET timezone = {zone} FROM n",
    ):
        with pytest.raises(pg.CheckViolation) as refused:
            clocked.connection.execute(statement.encode())
        assert refused.value.diag.constraint_name == "organizations_timezone_valid"
    assert clocked.row()["timezone"] == "UTC"


def test_a_new_zone_is_looked_up_once(clocked: Clocked) -> None:
    """However many rows a statement gives it to: a look costs ten milliseconds and more, with rows locked meanwhile."""
    clocked.begin()
    clocked.connection.execute(
        "INSERT INTO organizations (name, plan_id) SELECT 'org ' || n, id FROM plans, generate_series(1, 300) n"
    )
    clocked.connection.execute("SET extauthz.now = '2026-11-22Z'")
    started = monotonic()
    clocked.connection.execute("SELECT count(*) FROM pg_timezone_names")
    look = monotonic() - started
    started = monotonic()
    clocked.connection.execute("UPDATE organizations SET timezone = 'Asia/Tokyo'")
    assert monotonic() - started < 60 * look


@pytest.mark.parametrize("again", ["Asia/Tokyo", "UTC"])
def test_a_zone_that_is_lost_can_be_left(clocked: Clocked, again: str) -> None:
    """PostgreSQL was moved to time zone data without it: it is taken as UTC, and everything may be changed as ever."""
    clocked.begin()
    lose = "UPDATE organizations SET timezone = 'Gone/Zone', timezone_before = 'Gone/Before', last_day = '2026-11-20'"
    with clocked.connection.transaction():
        clocked.connection.execute("SET LOCAL session_replication_role = replica")
        clocked.connection.execute(lose.encode())
    clocked.connection.execute("UPDATE organizations SET status = 'suspended'")
    clocked.connection.execute("SELECT set_config('extauthz.now', '2026-11-22 10:00Z', false)")
    clocked.connection.execute("UPDATE organizations SET anchor = 15")
    assert clocked.kept() == ("Gone/Before", "2026-11-20", 1, "2026-12-01")
    calendar = clocked.change(at("2026-11-22 11:00"), timezone=again)
    assert (calendar.timezone, clocked.kept()) == (again, ("UTC", "2026-11-22", 1, "2026-12-01"))


def test_a_change_is_notified_and_logged(clocked: Clocked) -> None:
    """A change of the calendar is notified and logged like any other of an organization."""
    clocked.begin()
    clocked.connection.execute("LISTEN extauthz")
    clocked.change(at("2026-11-22 10:00"), timezone="Asia/Tokyo", anchor=15)
    (message,) = clocked.connection.notifies(timeout=10, stop_after=1)
    assert message.payload.startswith("organization ")
    (entry,) = clocked.connection.execute("SELECT diff FROM audit_log ORDER BY id DESC LIMIT 1").fetchall()
    assert entry["diff"] == {
        "timezone": ["UTC", "Asia/Tokyo"],
        "timezone_before": [None, "UTC"],
        "last_day": [None, "2026-11-22"],
        "anchor": [1, 15],
        "anchor_before": [None, 1],
        "next_month": [None, "2026-12-01"],
    }
