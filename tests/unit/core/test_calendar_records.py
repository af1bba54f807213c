"""Calendars as records, and names of time zones."""

from hypothesis import given

from extauthz.core import calendar
from extauthz.core.calendar import UTC_CALENDAR, Calendar, is_timezone
from tests.refusals import refusal
from tests.unit.core.test_calendar import calendars


@given(calendars())
def test_record_of_a_calendar_is_the_calendar(drawn: tuple[Calendar, int]) -> None:
    """A record reads back equal; equal calendars are one object, because every check compares them."""
    record = drawn[0].to_record()
    assert Calendar.from_record(record) == drawn[0]
    assert Calendar.from_record(record) is Calendar.from_record(dict(record))


INVALID: list[tuple[dict[str, object], str]] = [
    ({"timezone": None}, "timezone or anchor is missing"),
    ({"timezone": "Mars/Olympus"}, "timezone must be a time zone"),
    ({"timezone": "../etc/passwd"}, "timezone must be a time zone"),
    ({"timezone": 1}, "timezone must be a time zone"),
    ({"timezone_before": ""}, "timezone_before must be a time zone"),
    ({"anchor": None}, "timezone or anchor is missing"),
    ({"anchor": 0}, "anchor must be a day"),
    ({"anchor": 32}, "anchor must be a day"),
    ({"anchor": True}, "anchor must be a day"),
    ({"anchor": 1.0}, "anchor must be a day"),
    ({"anchor_before": "1"}, "anchor_before must be a day"),
    ({"last_day": 20270101}, "last_day must be a date"),
    ({"last_day": "yesterday"}, "last_day must be a date"),
    ({"next_month": "0001-01-01"}, "next_month must be a date that can be counted"),
    ({"next_month": "9999-01-01"}, "next_month must be a date that can be counted"),
]
NO_ZONES = ("", "Europe", "europe", "/etc/localtime", "a/../b", "UTC\n", "UTC\0", "x" * 5000)


def test_invalid_calendars() -> None:
    """Each wrong value is reported by its field, and not repeated."""
    for changed, complaint in INVALID:
        said = refusal(Calendar.from_record, UTC_CALENDAR.to_record() | changed)
        assert said.startswith(complaint)
        assert not [value for value in map(str, changed.values()) if len(value) > 1 and value in said]


def test_names_of_zones() -> None:
    """Those of the time zone database are; folders, paths out of it and other texts are not, and raise no error."""
    assert all(map(is_timezone, ("Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+12")))
    assert not any(map(is_timezone, NO_ZONES))


def test_long_names_of_time_zones_are_not_remembered() -> None:
    """A name that is too long or malformed is rejected without a look-up, and not cached."""
    before = calendar._is_there.cache_info()
    assert not any(is_timezone(name) for number in range(100) for name in (f"A{number}" * 9_000, f"{number} Paris", ""))
    assert calendar._is_there.cache_info() == before


def test_bounds_of_calendars() -> None:
    """Every day of a month is an anchor, and dates are counted from 1971 to 9000."""
    record = UTC_CALENDAR.to_record() | {"anchor": 31, "last_day": "1971-01-01", "next_month": "9000-12-31"}
    assert Calendar.from_record(record).to_record() == record
