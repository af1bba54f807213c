"""Hours by the clock of a zone, also with offsets of half an hour, changed clocks, and a change of zone."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from hypothesis import given

from extauthz.core.calendar import NO_WINDOWS, UTC_CALENDAR, Calendar, Windows
from tests.generated import examples
from tests.unit.core.test_calendar import HOUR, calendars

HALF = HOUR // 2


def hours(calendar: Calendar, now: int) -> Windows:
    return calendar.round(now, hours=True).hours


def at(text: str) -> int:
    """Seconds of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def lengths(calendar: Calendar, start: int, count: int) -> list[int]:
    """Seconds of the hours from the one that begins at a moment on."""
    found = []
    for _ in range(count):
        begin, end = hours(calendar, start).bounds[1:3]
        assert begin == start
        found.append(end - begin)
        start = end
    return found


@examples(15, 3_000)
@given(calendars())
def test_hours_follow_each_other(drawn: tuple[Calendar, int]) -> None:
    """Without gap or overlap, none longer than 3600 s; those around the next hour are the same."""
    calendar, now = drawn
    found = hours(calendar, now)
    assert found.index_at(now) == 1
    before, begin, end, after = found.bounds
    assert all(0 < later - earlier <= HOUR for earlier, later in ((before, begin), (begin, end), (end, after)))
    assert hours(calendar, end).bounds[:3] == (begin, end, after)
    assert hours(calendar, before).bounds[1:] == (before, begin, end)
    assert found.dates[1] == calendar.day_at(begin)


def test_hours_follow_the_zones_clock() -> None:
    """Where a zone's offset has 30 or 15 minutes, its hours begin in the middle of UTC's."""
    for zone, minute in {"UTC": 0, "Asia/Kolkata": 30, "Asia/Kathmandu": 15, "America/St_Johns": 30}.items():
        begin, end = hours(Calendar(zone), at("2027-01-15T08:50")).bounds[1:3]
        assert datetime.fromtimestamp(begin, ZoneInfo(zone)).minute == 0
        assert (datetime.fromtimestamp(begin, UTC).minute, end - begin) == (minute, HOUR)


def test_an_hour_that_is_shown_twice_is_two_hours() -> None:
    """Berlin's clocks go from 3 back to 2; nothing is counted for two hours at once."""
    calendar = Calendar("Europe/Berlin")
    assert lengths(calendar, at("2027-10-30T23:00"), 4) == [HOUR] * 4
    assert lengths(calendar, at("2027-03-28T00:00"), 3) == [HOUR] * 3  # from 2 on to 3


def test_clocks_that_move_by_half_an_hour() -> None:
    """The hour behind the change is half as long; then they are whole again."""
    calendar = Calendar("Australia/Lord_Howe")
    for moved in ("2027-04-03T15:00", "2027-10-02T15:30"):
        assert lengths(calendar, at(moved) - HOUR, 4) == [HOUR, HALF, HOUR, HOUR]


def test_another_zone() -> None:
    """Hours are the old zone's until the day under way ends, and the new one's from then on."""
    calendar = Calendar("Asia/Kolkata", timezone_before="UTC", last_day=date(2027, 1, 15))
    change = calendar.starts(date(2027, 1, 16))
    assert change == at("2027-01-16T00:00")
    assert lengths(calendar, change - HOUR, 3) == [HOUR, HALF, HOUR]


def test_hours_that_are_not_counted() -> None:
    """They are not computed, and days are the same without them."""
    now = at("2027-01-15T08:50")
    without, with_hours = UTC_CALENDAR.round(now), UTC_CALENDAR.round(now, hours=True)
    assert without.hours is NO_WINDOWS
    assert without[:2] == with_hours[:2]
