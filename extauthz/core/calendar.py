"""Hours, days and months as an organization counts them: by its time zone, and by the day on which its month begins.

A day is a local date; a month is a range of whole days. All are turned into seconds here, round a moment: Redis has no
time zones. A change holds from the next boundary on: docs/explanation/limits.md says it with an example.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", re.ASCII)
_ZONE_LENGTH_MAX = 64  # twice that of the longest name: whatever the admin API is given is looked up and remembered
_DAY = timedelta(days=1)
_YEARS = (1971, 9000)
_HOUR = 3600
_SLOT = 900  # seconds: zones differ by quarters of an hour, so that hardly a boundary lies within


class Windows(NamedTuple):
    """Three windows in a row, the middle one round a moment: `dates` they begin on (four: the last one's end, too),
    `bounds` their beginnings and the last one's end, in Unix seconds.
    """

    dates: tuple[date, date, date, date]
    bounds: tuple[int, int, int, int]

    def index_at(self, now: int) -> int | None:
        """Which of the three `now` (Unix seconds) lies in."""
        for index in range(3):
            if self.bounds[index] <= now < self.bounds[index + 1]:
                return index
        return None


NO_WINDOWS = Windows((date.min,) * 4, (0,) * 4)


class CalendarWindows(NamedTuple):
    """The days, the months and, where they are counted, the hours round a moment."""

    days: Windows
    months: Windows
    hours: Windows = NO_WINDOWS


@dataclass(frozen=True, slots=True)
class Calendar:
    """How an organization counts. `anchor` 1 to 31 is the day on which a month begins; in a shorter one its last day.

    Days up to `last_day` were counted in `timezone_before`, months that begin before `next_month` by `anchor_before`.
    """

    timezone: str = "UTC"
    anchor: int = 1
    timezone_before: str | None = None
    last_day: date | None = None
    anchor_before: int | None = None
    next_month: date | None = None

    def round(self, now: float, *, hours: bool = False) -> CalendarWindows:
        """Yesterday, today and tomorrow at `now` (Unix seconds), and the months round today; the `hours` round now."""
        windows = _round(self, int(now // _SLOT) * _SLOT, hours)
        if windows.days.index_at(int(now)) == 1 and (not hours or windows.hours.index_at(int(now)) == 1):
            return windows
        return _made(self, int(now), hours)  # a boundary lies between the beginning of the slot and now

    def starts(self, day: date) -> int:
        """The first second (Unix) of a day."""
        if self.timezone_before is None or self.last_day is None:
            return _midnight(day, self.timezone)
        if day <= self.last_day:
            return _midnight(day, self.timezone_before)
        # The day under way when the zone was changed ends where both zones are past it, and no day begins before that:
        # zones are up to 26 hours apart.
        return max(_midnight(self.last_day + _DAY, self.timezone_before), _midnight(day, self.timezone))

    def hours_at(self, now: int) -> Windows:
        """The clock hours round `now` (Unix seconds). Where clocks move by a part of an hour, one is shorter."""
        start = self._hour_start(now)
        end = self._hour_end(start)
        before, after = self._hour_start(start - 1), self._hour_end(end)
        dates = self.day_at(before), self.day_at(start), self.day_at(end), self.day_at(after)
        return Windows(dates, (before, start, end, after))

    def _hour_start(self, now: int) -> int:
        phase = self._phase(now)
        start = now - (now - phase) % _HOUR
        return start if self._phase(start) == phase else self._moved(start, now)

    def _hour_end(self, start: int) -> int:
        phase = self._phase(start)
        end = start - (start - phase) % _HOUR + _HOUR
        return end if self._phase(end - 1) == phase else self._moved(start, end - 1)

    def _phase(self, at: int) -> int:
        """Seconds after a full hour of UTC at which hours begin on the clock that is in force at `at`."""
        before = self.last_day is not None and at < self.starts(self.last_day + _DAY)
        zone = self.timezone_before if before and self.timezone_before is not None else self.timezone
        offset = datetime.fromtimestamp(at, ZoneInfo(zone)).utcoffset() or timedelta()
        return -int(offset.total_seconds()) % _HOUR

    def _moved(self, low: int, high: int) -> int:
        """The first second between two at which hours begin with another phase than at `low`."""
        phase = self._phase(low)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._phase(middle) == phase else (low, middle)
        return high

    def day_at(self, now: float) -> date:
        """The date that is counted at `now` (Unix seconds)."""
        day = datetime.fromtimestamp(now, ZoneInfo(self.timezone)).date() - _DAY
        if self.last_day is not None and day < self.last_day:
            day = min(day, self.last_day - _DAY)
        while self.starts(day) > now:
            day -= _DAY
        while self.starts(day + _DAY) <= now:
            day += _DAY
        return day

    def month_of(self, day: date) -> tuple[date, date]:
        """The first date of the month that `day` is in, and of the one that follows."""
        cut = self.next_month
        if self.anchor_before is None or cut is None:
            return _month(day, self.anchor)
        if day < cut:
            first, after = _month(day, self.anchor_before)
            return first, min(after, cut)
        first, after = _month(day, self.anchor)
        return max(first, cut), after

    def months_beginning_in(self, year: int, month: int) -> tuple[date, date]:
        """The first date of the month that begins in a month of the year, and of the one that follows.

        Where the anchor was changed two may begin in it, which then count as one: no day belongs to none or to both.
        """
        begin, end = date(year, month, 1), date(*_next(year, month), 1)
        first, after = self.month_of(begin)
        if first < begin:
            first, after = self.month_of(after)
        while after < end:
            after = self.month_of(after)[1]
        return first, after

    def in_force_from(self) -> dict[str, datetime | None]:
        """From when days are counted in `timezone` and months begin on `anchor`; None: from the start."""
        zone = None if self.last_day is None else self.starts(self.last_day + _DAY)
        months = None if self.next_month is None else self.starts(self.next_month)
        return {
            name: None if seconds is None else datetime.fromtimestamp(seconds, UTC)
            for name, seconds in (("timezone_from", zone), ("anchor_from", months))
        }

    def to_record(self) -> dict[str, object]:
        """The fields of a JSON record."""
        return {
            "timezone": self.timezone,
            "anchor": self.anchor,
            "timezone_before": self.timezone_before,
            "last_day": None if self.last_day is None else self.last_day.isoformat(),
            "anchor_before": self.anchor_before,
            "next_month": None if self.next_month is None else self.next_month.isoformat(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "Calendar":
        """The calendar of a record from a store; ValueError says what is wrong in it, never the value."""
        timezone, anchor = _zone(record, "timezone"), _anchor(record, "anchor")
        if timezone is None or anchor is None:
            raise ValueError("timezone or anchor is missing")
        return _shared(
            cls(
                timezone,
                anchor,
                _zone(record, "timezone_before"),
                _date(record, "last_day"),
                _anchor(record, "anchor_before"),
                _date(record, "next_month"),
            )
        )


UTC_CALENDAR = Calendar()


@lru_cache(maxsize=1024)
def _shared(calendar: Calendar) -> Calendar:
    """The one object of equal calendars: there are few kinds, and they are compared at every check."""
    return calendar


@lru_cache(maxsize=4096)
def _round(calendar: Calendar, now: int, hours: bool) -> CalendarWindows:
    return _made(calendar, now, hours)


def _made(calendar: Calendar, now: int, hours: bool) -> CalendarWindows:
    today = calendar.day_at(now)
    this, following = calendar.month_of(today)
    before = calendar.month_of(this - _DAY)[0]
    afterwards = calendar.month_of(following)[1]
    return CalendarWindows(
        _windows(calendar, (today - _DAY, today, today + _DAY, today + 2 * _DAY)),
        _windows(calendar, (before, this, following, afterwards)),
        calendar.hours_at(now) if hours else NO_WINDOWS,
    )


def _windows(calendar: Calendar, dates: tuple[date, date, date, date]) -> Windows:
    first, second, third, last = (calendar.starts(day) for day in dates)
    return Windows(dates, (first, second, third, last))


def _midnight(day: date, timezone: str) -> int:
    """Where clocks skip midnight, it is the moment at which they do; where they show it twice, the first time."""
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return int(local.astimezone(UTC).timestamp())


def _month(day: date, anchor: int) -> tuple[date, date]:
    this = _begins(day.year, day.month, anchor)
    if day >= this:
        return this, _begins(*_next(day.year, day.month), anchor)
    return _begins(*_previous(day.year, day.month), anchor), this


def _begins(year: int, month: int, anchor: int) -> date:
    if year < date.min.year:
        return date.min
    following = date(*_next(year, month), 1)
    return date(year, month, min(anchor, (following - _DAY).day))


def _next(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)


def _previous(year: int, month: int) -> tuple[int, int]:
    return (year - 1, 12) if month == 1 else (year, month - 1)


def is_timezone(name: str) -> bool:
    """Whether a name is one of the time zone database's."""
    return len(name) <= _ZONE_LENGTH_MAX and _ZONE.fullmatch(name) is not None and _is_there(name)


@lru_cache(maxsize=1024)
def _is_there(name: str) -> bool:
    try:
        return ZoneInfo(name) is not None
    except (OSError, ValueError, KeyError):
        return False


def _zone(record: Mapping[str, object], name: str) -> str | None:
    value = record.get(name)
    if value is not None and not (isinstance(value, str) and is_timezone(value)):
        raise ValueError(f"{name} must be a time zone")
    return value


def _anchor(record: Mapping[str, object], name: str) -> int | None:
    value = record.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 31):
        raise ValueError(f"{name} must be a day from 1 to 31")
    return value


def _date(record: Mapping[str, object], name: str) -> date | None:
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a date")
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{name} must be a date") from None
    if not _YEARS[0] <= day.year <= _YEARS[1]:
        raise ValueError(f"{name} must be a date that can be counted")
    return day
