"""Days and months by zones whose clocks change, by anchors, and during a change of either."""

from datetime import UTC, date, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.calendar import UTC_CALENDAR, Calendar
from tests.generated import is_deep

HOUR = 3600
DAY = timedelta(days=1)
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/Havana",  # clocks skip midnight
    "Asia/Beirut",
    "America/Sao_Paulo",  # and show an hour before it twice
    "America/St_Johns",  # they changed a minute past it
    "Pacific/Apia",  # a date was skipped
    "Pacific/Kwajalein",
    "Pacific/Kiritimati",  # the earliest of all
    "Etc/GMT+12",  # the latest
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # half an hour
)


def unix(text: str, zone: str = "UTC") -> int:
    """Seconds of a local time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def days(calendar: Calendar, now: float) -> list[str]:
    return [f"{day}" for day in calendar.round(now).days.dates[:3]]


def months(calendar: Calendar, now: float) -> list[str]:
    """The previous, current and next month's beginnings, and the last one's end."""
    return [f"{day}" for day in calendar.round(now).months.dates]


zones = st.sampled_from(ZONES)
dates = st.dates(date(1993, 1, 1), date(2040, 1, 1))
# About the days on which something odd happens, or at any time.
moments = st.builds(
    lambda day, seconds: int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) + seconds,
    st.sampled_from([date(1993, 8, 21), date(2011, 12, 30), date(2027, 3, 14), date(2027, 3, 28), date(2027, 11, 7)])
    | dates,
    st.integers(-2 * 86_400, 2 * 86_400),
)


@st.composite
def calendars(draw: st.DrawFn) -> tuple[Calendar, int]:
    """A calendar with changes of zone and anchor some days before or after a moment, and the moment."""
    now = draw(moments)
    day = datetime.fromtimestamp(now, UTC).date()
    anchors, off = st.integers(1, 31), st.integers(-40, 40).map(lambda days: days * DAY)
    zone_changed, anchor_changed = draw(st.booleans()), draw(st.booleans())
    before, next_month = None, None
    if anchor_changed:  # from the beginning of a month on, as PostgreSQL chooses it
        before = draw(anchors)
        next_month = Calendar(anchor=before).month_of(day + draw(off))[1]
    return Calendar(
        draw(zones),
        draw(anchors),
        draw(zones) if zone_changed else None,
        day + draw(st.integers(-3, 3)) * DAY if zone_changed else None,
        before,
        next_month,
    ), now


@given(calendars())
def test_each_moment_is_in_one_window(drawn: tuple[Calendar, int]) -> None:
    """Windows follow each other without gap or overlap, now is in the middle ones, and days are those of the months."""
    calendar, now = drawn
    for windows in calendar.round(now)[:2]:
        assert sorted(windows.bounds) == list(windows.bounds)
        assert sorted(set(windows.dates)) == list(windows.dates)
        assert windows.index_at(now) == 1
        assert windows.bounds == tuple(map(calendar.starts, windows.dates))
        assert windows.index_at(windows.bounds[0] - 1) is None
        assert windows.index_at(windows.bounds[3]) is None
    round_now = calendar.round(now)
    assert calendar.day_at(now) == round_now.days.dates[1]
    assert round_now.months.dates[1] <= round_now.days.dates[1] < round_now.months.dates[2]


@given(calendars(), st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=20))
def test_the_calendar_only_goes_forward(drawn: tuple[Calendar, int], steps: list[int]) -> None:
    """As time passes no date and no month comes back, and tomorrow begins when it was to begin."""
    calendar, now = drawn
    before = calendar.round(now)
    for step in steps:
        now += step
        after = calendar.round(now)
        assert after.days.dates[1] >= before.days.dates[1]
        assert after.months.dates[1] >= before.months.dates[1]
        for earlier, later in zip(before, after, strict=True):
            begins = dict(zip(earlier.dates, earlier.bounds, strict=True))
            assert all(begins.get(day, at) == at for day, at in zip(later.dates, later.bounds, strict=True))
        before = after


@given(calendars())
def test_months_cover_every_date_once(drawn: tuple[Calendar, int]) -> None:
    """Each date is in one month, the month after it begins where it ends, and none has more than 31 days."""
    calendar, now = drawn
    first, after = calendar.month_of(calendar.day_at(now))
    for _ in range(5):
        assert timedelta(0) < after - first <= 31 * DAY
        assert all(calendar.month_of(first + n * DAY) == (first, after) for n in range((after - first).days))
        first, after = after, calendar.month_of(after)[1]


@pytest.mark.fuzz
def test_a_day_begins_with_its_first_moment() -> None:
    """Through years of changed clocks: no second before a day's beginning has its date, the first one has."""
    for zone, year in product(ZONES, range(1993, 2040) if is_deep() else (2011, 2027)):
        calendar, local = Calendar(zone), ZoneInfo(zone)
        day, begins = date(year, 1, 1), 0
        while day.year == year:
            before, begins = begins, calendar.starts(day)
            if begins != before + 86_400:
                assert datetime.fromtimestamp(begins - 1, local).date() < day
                assert datetime.fromtimestamp(begins, local).date() >= day
            day += DAY


LENGTHS = [
    ("Europe/Berlin", date(2027, 3, 28), 23),
    ("Europe/Berlin", date(2027, 10, 31), 25),
    ("America/New_York", date(2027, 3, 14), 23),
    ("America/New_York", date(2027, 11, 7), 25),
    ("America/Havana", date(2027, 3, 14), 23),
    ("Asia/Beirut", date(2027, 3, 28), 23),
    ("America/Sao_Paulo", date(2018, 2, 17), 25),
    ("Australia/Lord_Howe", date(2027, 4, 4), 24.5),
    ("Asia/Kathmandu", date(2027, 4, 4), 24),
    ("Pacific/Apia", date(2011, 12, 29), 24),
    ("Pacific/Apia", date(2011, 12, 30), 0),
]


def test_days_are_as_long_as_clocks_say() -> None:
    """23 and 25 hours where clocks change, none at all for a date that was skipped."""
    for zone, day, hours in LENGTHS:
        calendar = Calendar(zone)
        assert calendar.starts(day + DAY) - calendar.starts(day) == hours * HOUR


MIDNIGHTS = [
    ("America/Havana", "2027-03-14", "2027-03-14T05:00"),
    ("Asia/Beirut", "2027-03-28", "2027-03-27T22:00"),
    ("America/Sao_Paulo", "2018-02-18", "2018-02-18T03:00"),
    ("America/Havana", "2027-11-07", "2027-11-07T04:00"),
]


def test_a_midnight_that_is_skipped_or_comes_twice() -> None:
    """The day begins when clocks jump over its midnight; of two midnights, with the first."""
    for zone, local, at in MIDNIGHTS:
        day, begins, calendar = date.fromisoformat(local), unix(at), Calendar(zone)
        assert calendar.starts(day) == begins
        assert (calendar.day_at(begins - 1), calendar.day_at(begins)) == (day - DAY, day)
        assert calendar.day_at(begins + 2 * HOUR) == day


def test_a_date_that_was_skipped() -> None:
    """Samoa had no 30 December 2011: no moment is counted for it, and the 29th is followed by the 31st."""
    calendar, jump = Calendar("Pacific/Apia"), unix("2011-12-30T10:00")
    assert days(calendar, jump - 1) == ["2011-12-28", "2011-12-29", "2011-12-30"]
    assert days(calendar, jump) == ["2011-12-30", "2011-12-31", "2012-01-01"]
    assert calendar.round(jump - 1).days.index_at(jump) is None


MONTHS = [
    (1, "2027-01-31", ["2026-12-01", "2027-01-01", "2027-02-01", "2027-03-01"]),
    (1, "2028-02-29", ["2028-01-01", "2028-02-01", "2028-03-01", "2028-04-01"]),
    (1, "2100-02-28", ["2100-01-01", "2100-02-01", "2100-03-01", "2100-04-01"]),
    (15, "2027-03-14", ["2027-01-15", "2027-02-15", "2027-03-15", "2027-04-15"]),
    (15, "2027-03-15", ["2027-02-15", "2027-03-15", "2027-04-15", "2027-05-15"]),
    (29, "2027-02-28", ["2027-01-29", "2027-02-28", "2027-03-29", "2027-04-29"]),
    (29, "2028-02-28", ["2027-12-29", "2028-01-29", "2028-02-29", "2028-03-29"]),
    (30, "2027-02-28", ["2027-01-30", "2027-02-28", "2027-03-30", "2027-04-30"]),
    (31, "2027-02-27", ["2026-12-31", "2027-01-31", "2027-02-28", "2027-03-31"]),
    (31, "2027-04-30", ["2027-03-31", "2027-04-30", "2027-05-31", "2027-06-30"]),
    (31, "2027-12-31", ["2027-11-30", "2027-12-31", "2028-01-31", "2028-02-29"]),
]


def test_months_begin_on_the_anchor() -> None:
    """Calendar months of 28 to 31 days; a month without the anchor's day begins on its last day."""
    for anchor, today, expected in MONTHS:
        assert months(Calendar(anchor=anchor), unix(today) + 12 * HOUR) == expected


def test_quotas_follow_the_organizations_midnight() -> None:
    """A month ends at local midnight, an hour or more beside that of UTC."""
    calendar = Calendar("Europe/Berlin")
    for end, utc in (("2027-02-01", "2027-01-31T23:00"), ("2027-07-01", "2027-06-30T22:00")):
        assert calendar.starts(date.fromisoformat(end)) == unix(end, "Europe/Berlin") == unix(utc)


CHANGES = [
    ("America/New_York", "2027-01-16T05:00", 29),  # to the west: the current day ends with the new zone's
    ("Asia/Tokyo", "2027-01-16T00:00", 24),  # to the east: with the old zone's; the new zone's next day has begun
    ("UTC", "2027-01-16T00:00", 24),  # there and back again on one day
]


def test_a_change_of_zone_waits_for_the_end_of_the_day() -> None:
    """The current day continues in the old zone until both zones are past it; no date comes twice."""
    for zone, begins, hours in CHANGES:
        calendar, at = Calendar(zone, 1, "UTC", date(2027, 1, 15)), unix(begins)
        assert calendar.day_at(at - 1) == date(2027, 1, 15)
        assert calendar.day_at(at) == date(2027, 1, 16)
        assert at - calendar.starts(date(2027, 1, 15)) == hours * HOUR
        assert calendar.starts(date(2027, 1, 17)) == unix("2027-01-17", zone)
        assert calendar.starts(date(2027, 1, 10)) == unix("2027-01-10")


def test_a_change_of_zone_round_the_world() -> None:
    """From the last zone of the earth to the first: they are 26 hours apart, and the date between has no time."""
    calendar = Calendar("Pacific/Kiritimati", 1, "Etc/GMT+12", date(2027, 1, 15))
    end = unix("2027-01-16T12:00")
    assert [calendar.starts(date(2027, 1, day)) for day in (16, 17, 18)] == [end, end, unix("2027-01-17T10:00")]
    assert (calendar.day_at(end - 1), calendar.day_at(end)) == (date(2027, 1, 15), date(2027, 1, 17))


def test_a_change_of_anchor_waits_for_the_end_of_the_month() -> None:
    """The current month ends as planned, a shorter one leads to the new day, then months are whole."""
    calendar = Calendar(anchor=15, anchor_before=1, next_month=date(2027, 2, 1))
    expected = ["2026-12-01", "2027-01-01", "2027-02-01", "2027-02-15"]
    assert months(calendar, unix("2027-01-20")) == expected
    assert months(calendar, unix("2027-02-10")) == [*expected[1:], "2027-03-15"]
    assert months(calendar, unix("2027-02-15")) == [*expected[2:], "2027-03-15", "2027-04-15"]
    # Changed once more in the short month: it goes on from where it began.
    again = Calendar(anchor=20, anchor_before=1, next_month=date(2027, 2, 15))
    assert months(again, unix("2027-02-10"))[1:3] == ["2027-02-01", "2027-02-15"]
    assert months(again, unix("2027-02-16"))[1:3] == ["2027-02-15", "2027-02-20"]


def test_cached_windows_equal_computed_windows() -> None:
    """Windows are cached for a while; at every second near an end they equal computed ones."""
    end = unix("2027-02-01")
    for calendar in (UTC_CALENDAR, Calendar("Asia/Kathmandu"), Calendar("Africa/Monrovia")):
        for now in (*range(end - 1000, end + 1000, 50), end - 1, end, end + 0.999):
            assert calendar.round(now).days.dates[1] == datetime.fromtimestamp(now, ZoneInfo(calendar.timezone)).date()


def test_since_when_a_calendar_is_in_force() -> None:
    """From the end of the day and of the month in which zone and anchor were changed; from the start where never."""
    assert UTC_CALENDAR.in_force_from() == {"timezone_from": None, "anchor_from": None}
    changed = Calendar("Asia/Tokyo", 15, "UTC", date(2027, 1, 15), 1, date(2027, 2, 1))
    assert changed.in_force_from() == {
        "timezone_from": datetime(2027, 1, 16, tzinfo=UTC),
        "anchor_from": datetime(2027, 1, 31, 15, tzinfo=UTC),
    }
