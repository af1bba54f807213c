"""When days and months begin, and how their counters are called."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.core.limits import Limits
from extauthz.core.reason import Reason
from extauthz.core.spend import DAILY, MICRO, MONTHLY, State, day_windows, month_windows, plan, spend

DAY = 86_400


def unix(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type] # year, month, day and so on


@given(st.datetimes(datetime(1971, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - see timezones
@settings(max_examples=60)
def test_windows_round_any_moment(moment: datetime) -> None:
    """Three days and three months on end, named by their date in UTC; now is in the middle one."""
    now = moment.timestamp()
    for windows, form, lengths in (
        (day_windows(now), "d:%Y%m%d", {1}),
        (month_windows(now), "m:%Y%m", {28, 29, 30, 31}),
    ):
        before, this, after = windows
        assert (before.end, this.end) == (this.start, after.start)
        assert {(window.end - window.start) / (DAY * MICRO) for window in windows} <= lengths
        assert this.start <= round(now * MICRO) < this.end
        for window in windows:
            assert window.field == datetime.fromtimestamp(window.start / MICRO, UTC).strftime(form)


@pytest.mark.parametrize(
    ("moment", "days", "months"),
    [
        ((2027, 1, 31, 12), ["20270130", "20270131", "20270201"], ["202612", "202701", "202702"]),
        ((2027, 3, 1), ["20270228", "20270301", "20270302"], ["202702", "202703", "202704"]),
        ((2028, 2, 29, 23, 59, 59), ["20280228", "20280229", "20280301"], ["202801", "202802", "202803"]),
        ((2027, 12, 31, 23, 59, 59), ["20271230", "20271231", "20280101"], ["202711", "202712", "202801"]),
        ((2028, 1, 1), ["20271231", "20280101", "20280102"], ["202712", "202801", "202802"]),
        ((2100, 2, 28), ["21000227", "21000228", "21000301"], ["210001", "210002", "210003"]),
    ],
)
def test_ends_of_months_and_years(moment: tuple[int, ...], days: list[str], months: list[str]) -> None:
    """Months of 28 to 31 days, leap years and the year's end."""
    now = unix(*moment)
    assert [window.field for window in day_windows(now)] == [f"d:{day}" for day in days]
    assert [window.field for window in month_windows(now)] == [f"m:{month}" for month in months]


def test_quotas_begin_anew_at_midnight() -> None:
    """The last microsecond of a day is of that day, the next is of the next; so with months."""
    state, midnight = State(None, 0, 0, {}), round(unix(2027, 2, 1)) * MICRO

    def refused(now: int) -> tuple[str, ...]:
        asked = plan(Limits(daily_quota=1, monthly_quota=1), 1, now / MICRO)
        assert not isinstance(asked, Reason)
        return spend(state, asked, now).refused

    assert refused(midnight - 1) == ()
    assert refused(midnight - 1) == (DAILY, MONTHLY)
    assert refused(midnight) == ()
    assert refused(midnight) == (DAILY, MONTHLY)
    assert refused(midnight + DAY * MICRO) == (MONTHLY,)
