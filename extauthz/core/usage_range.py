"""The days that a usage report covers, and the periods that it is broken into."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, NamedTuple

from extauthz.core.calendar import Calendar
from extauthz.core.errors import InvalidInput

By = Literal["day", "month", "key"]
DAYS_MAX = 1096  # three years, one of them a leap year

_DAY = timedelta(days=1)


class Period(NamedTuple):
    """Whole days of an organization's calendar, from `first` to `last`, both included."""

    first: date
    last: date

    def days(self) -> "Iterator[Period]":
        """Each day as a period of its own."""
        for offset in range((self.last - self.first).days + 1):
            day = self.first + offset * _DAY
            yield Period(day, day)

    def months(self, calendar: Calendar) -> "Iterator[Period]":
        """Its months, as quotas count them. The first and the last one may be cut short by the ends of the period."""
        first = self.first
        while first <= self.last:
            after = calendar.month_of(first)[1]
            yield Period(first, min(after - _DAY, self.last))
            first = after


@dataclass(frozen=True, slots=True)
class UsageRange:
    """The days that a report is asked for: one `day`, one `month`, or `from_` a day `to` another, by default today.

    `month` is the first date of a month of the year; the report covers the organization's own month that begins in it.
    """

    day: date | None = None
    month: date | None = None
    from_: date | None = None
    to: date | None = None

    def period(self, calendar: Calendar, today: date) -> Period:
        """The days in an organization's calendar; a month that is under way ends today.

        Raises InvalidInput, whose text begins with the name of a field, for a range that contradicts itself, that has
        not begun, or that is longer than DAYS_MAX.
        """
        self._check_names()
        if self.month is not None:
            return _month(self.month, calendar, today)
        first, last = self.from_ or self.day or today, self.to or self.day or today
        for name, day in (("day", self.day), ("from", self.from_), ("to", self.to)):
            if day is not None and day > today:
                raise _not_begun(name, day, calendar=calendar, today=today)
        days = (last - first).days + 1
        if days < 1:
            raise InvalidInput(f"from must not be after to (got {first} and {last})")
        if days > DAYS_MAX:
            raise InvalidInput(f"from must be at most {DAYS_MAX - 1} days before to (got {days - 1})")
        return Period(first, last)

    def _check_names(self) -> None:
        given = [
            name for name, day in (("day", self.day), ("month", self.month), ("from", self.from_)) if day is not None
        ]
        if len(given) > 1:
            raise InvalidInput(f"{given[1]} must not be given together with {given[0]}")
        if self.to is not None and given != ["from"]:
            raise InvalidInput("to must be given together with from alone")


TODAY = UsageRange()


def _month(month: date, calendar: Calendar, today: date) -> Period:
    if month <= today:
        first, after = calendar.months_beginning_in(month.year, month.month)
        if first <= today:
            return Period(first, min(after - _DAY, today))
    raise _not_begun("month", month.isoformat()[:7], calendar=calendar, today=today)


def _not_begun(name: str, asked: object, *, calendar: Calendar, today: date) -> InvalidInput:
    return InvalidInput(f"{name} {asked} has not begun; today is {today} ({calendar.timezone})")
