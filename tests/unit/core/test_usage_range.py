"""Days of a usage report: none is lost, doubled or in the future; contradictory ranges are rejected."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.calendar import UTC_CALENDAR, Calendar
from extauthz.core.errors import InvalidInput
from extauthz.core.usage_range import DAYS_MAX, Period, UsageRange

ONE = timedelta(days=1)
TODAY = date(2027, 1, 20)
YEAR_AGO = date(2026, 1, 20)
ANCHORED = Calendar("Europe/Berlin", 15)


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    """Months from any day on, perhaps from another one since the end of a month."""
    anchor = draw(st.integers(1, 31))
    if draw(st.booleans()):
        return Calendar(anchor=anchor)
    before = draw(st.integers(1, 31))
    return Calendar(anchor=anchor, anchor_before=before, next_month=Calendar(anchor=before).month_of(TODAY)[1])


VALID = [
    (UsageRange(), UTC_CALENDAR, TODAY, TODAY),
    (UsageRange(day=YEAR_AGO), UTC_CALENDAR, YEAR_AGO, YEAR_AGO),
    (UsageRange(day=date.min), UTC_CALENDAR, date.min, date.min),
    (UsageRange(from_=YEAR_AGO), UTC_CALENDAR, YEAR_AGO, TODAY),
    (UsageRange(from_=YEAR_AGO, to=YEAR_AGO), UTC_CALENDAR, YEAR_AGO, YEAR_AGO),
    (UsageRange(from_=date(2026, 12, 31), to=date(2027, 1, 1)), ANCHORED, date(2026, 12, 31), date(2027, 1, 1)),
    (UsageRange(from_=TODAY - (DAYS_MAX - 1) * ONE), UTC_CALENDAR, TODAY - (DAYS_MAX - 1) * ONE, TODAY),
    (UsageRange(month=date(2026, 12, 1)), UTC_CALENDAR, date(2026, 12, 1), date(2026, 12, 31)),
    (UsageRange(month=date(2024, 2, 1)), UTC_CALENDAR, date(2024, 2, 1), date(2024, 2, 29)),
    (UsageRange(month=date(2027, 1, 1)), UTC_CALENDAR, date(2027, 1, 1), TODAY),
    (UsageRange(month=date(2026, 12, 1)), ANCHORED, date(2026, 12, 15), date(2027, 1, 14)),
    (UsageRange(month=date(2027, 1, 1)), ANCHORED, date(2027, 1, 15), TODAY),
    (UsageRange(month=date(2026, 2, 1)), Calendar(anchor=31), date(2026, 2, 28), date(2026, 3, 30)),
    (UsageRange(month=date.min), ANCHORED, date.min, date(1, 2, 14)),
]


def test_valid_ranges() -> None:
    """Today, a day, a month by the organization's anchor, or a range, which ends today where no end is given."""
    assert [case for case in VALID if case[0].period(case[1], TODAY) != case[2:]] == []


INVALID = [
    (UsageRange(day=TODAY, month=TODAY), "month must not be given together with day"),
    (UsageRange(day=TODAY, from_=TODAY, to=TODAY), "from must not be given together with day"),
    (UsageRange(month=TODAY, from_=TODAY), "from must not be given together with month"),
    (UsageRange(to=TODAY), "to must be given together with from alone"),
    (UsageRange(day=TODAY, to=TODAY), "to must be given together with from alone"),
    (UsageRange(from_=TODAY, to=TODAY - ONE), "from must not be after to (got 2027-01-20 and 2027-01-19)"),
    (UsageRange(day=TODAY + ONE), "day 2027-01-21 has not begun; today is 2027-01-20 (Europe/Berlin)"),
    (UsageRange(from_=TODAY + ONE), "from 2027-01-21 has not begun; today is 2027-01-20 (Europe/Berlin)"),
    (UsageRange(from_=TODAY, to=date.max), "to 9999-12-31 has not begun; today is 2027-01-20 (Europe/Berlin)"),
    (UsageRange(month=date(2027, 2, 1)), "month 2027-02 has not begun; today is 2027-01-20 (Europe/Berlin)"),
    (UsageRange(month=date(9999, 12, 1)), "month 9999-12 has not begun; today is 2027-01-20 (Europe/Berlin)"),
    (UsageRange(from_=TODAY - DAYS_MAX * ONE), "from must be at most 1095 days before to (got 1096)"),
    (UsageRange(from_=date.min), "from must be at most 1095 days before to (got 740000)"),
]


def test_invalid_ranges() -> None:
    """The error begins with the field, and says what is right."""
    for asked, said in INVALID:
        with pytest.raises(InvalidInput) as refused:
            asked.period(ANCHORED, TODAY)
        assert str(refused.value) == said


def test_a_month_that_begins_today() -> None:
    """It has begun, and ends today so far."""
    for calendar, first in ((UTC_CALENDAR, date(2027, 1, 1)), (ANCHORED, date(2027, 1, 15))):
        assert UsageRange(month=date(2027, 1, 1)).period(calendar, first) == (first, first)


def test_a_month_whose_anchor_is_still_to_come() -> None:
    """Before its first day it has not begun, although the month of the year has."""
    with pytest.raises(InvalidInput, match="month 2027-01 has not begun"):
        UsageRange(month=date(2027, 1, 1)).period(ANCHORED, date(2027, 1, 14))


@given(calendars(), st.integers(2020, 2031), st.integers(1, 12))
def test_months_of_the_year_share_no_day_and_lose_none(calendar: Calendar, year: int, month: int) -> None:
    """One ends where the next one begins, whatever the anchor, and while it changes."""
    first, after = calendar.months_beginning_in(year, month)
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    assert (first.year, first.month) == (year, month)
    assert calendar.months_beginning_in(*following)[0] == after


@given(calendars(), st.dates(date(2019, 12, 1), date(2031, 3, 1)), st.integers(0, 100) | st.integers(0, DAYS_MAX))
def test_periods_share_no_day_and_lose_none(calendar: Calendar, first_day: date, more: int) -> None:
    """Days and months follow each other from the first day to the last; a month is one month of the calendar."""
    period = Period(first_day, first_day + more * ONE)
    for parts in (list(period.days()), list(period.months(calendar))):
        assert (parts[0].first, parts[-1].last) == period
        assert [part.first for part in parts[1:]] == [part.last + ONE for part in parts[:-1]]
    assert all(day.first == day.last for day in period.days())
    for month in period.months(calendar):
        first, after = calendar.month_of(month.first)
        assert month == (max(first, period.first), min(after - ONE, period.last))
