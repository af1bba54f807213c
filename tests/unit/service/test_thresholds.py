"""Passed thresholds of quotas: each noticed once in a window, none left out."""

from dataclasses import replace
from datetime import date

import pytest

from extauthz.core.limits import Limits
from extauthz.core.spend import Owner, Row, Spend
from extauthz.core.usage import QuotaEvent
from extauthz.service.usage import thresholds as module
from extauthz.service.usage.thresholds import Thresholds
from tests.unit.service.fakes import NOW, TENANT

TODAY, MONTH = date(2027, 1, 15), date(2027, 1, 1)


def spend(tenant_id: str = "org-1", *, daily: int | None = 100, monthly: int | None = None) -> Spend:
    windows = TENANT.calendar.round(NOW)
    limits = Limits(None, None, daily, monthly)
    return Spend(Owner("tenant", tenant_id), 1, limits, TENANT.calendar, windows, "key-1")


def spent(by_day: int, by_month: int = 0, *, day: int = 1, month: int = 1) -> Row:
    return 0, 0, day + 1, month + 1, 0, 0, by_day, by_month, 0, 0, by_day, by_month


def note(thresholds: Thresholds, asked: Spend, result: Row) -> None:
    assert asked.windows is not None
    thresholds.note(asked, asked.windows, result)


def passed(thresholds: Thresholds) -> list[tuple[str, int, int]]:
    """Quota, threshold and use of all waiting events, which are removed."""
    events = list(thresholds.next())
    thresholds.announced(events)
    return [(event.quota, event.threshold, event.used) for event in events]


def test_an_hourly_quota_once_a_day() -> None:
    """Of many hours that pass a threshold one event is written in a day; the next day has another."""
    thresholds, asked = Thresholds(), replace(spend(daily=None), limits=Limits(hourly_quota=10))
    for hours in (0, 1, 2, 24):
        asked = asked.at(NOW + hours * 3600)
        note(thresholds, asked, (*spent(hours), 2, 8, 0))
    events = list(thresholds.next())
    assert [(event.quota, event.window_start, event.threshold) for event in events] == [
        ("hourly", TODAY, 80),
        ("hourly", date(2027, 1, 16), 80),
    ]


@pytest.mark.parametrize(
    ("limit", "noticed"),
    [
        (100, {80: 80, 90: 90, 100: 100}),
        (10, {8: 80, 9: 90, 10: 100}),
        (7, {6: 80, 7: 90}),
        (1, {1: 80}),
        (3, {3: 80}),
    ],
)
def test_one_by_one(limit: int, noticed: dict[int, int]) -> None:
    """Exactly the request that passes the threshold is noticed; later ones are not."""
    thresholds = Thresholds()
    seen = {}
    for used in range(1, limit + 1):
        note(thresholds, spend(daily=limit), spent(used))
        if events := passed(thresholds):
            seen[used] = events[0][1]
            assert all(event[2] == used for event in events)
        note(thresholds, spend(daily=limit), spent(used))
        assert passed(thresholds) == []
    assert seen == noticed


def test_a_jump() -> None:
    """A counter that starts over at 95, or is beyond a lowered quota, has passed all lower thresholds."""
    thresholds = Thresholds()
    note(thresholds, spend(), spent(95))
    assert passed(thresholds) == [("daily", 80, 95), ("daily", 90, 95)]
    note(thresholds, spend(daily=50), spent(95))
    assert passed(thresholds) == [("daily", 100, 95)]


def test_fields_of_an_event() -> None:
    """The organization, the quota, the first date of the window by Redis's clock, use and limit."""
    thresholds = Thresholds()
    note(thresholds, spend(monthly=1000), spent(80, 900, day=0, month=2))
    assert thresholds.next() == [
        QuotaEvent("org-1", "daily", date(2027, 1, 14), 80, 80, 100),
        QuotaEvent("org-1", "monthly", date(2027, 2, 1), 80, 900, 1000),
        QuotaEvent("org-1", "monthly", date(2027, 2, 1), 90, 900, 1000),
    ]


def test_each_window_and_organization_has_its_own() -> None:
    """The next day and another organization pass the same threshold again."""
    thresholds = Thresholds()
    for asked, result in ((spend(), spent(80)), (spend("org-2"), spent(80)), (spend(), spent(80, day=2))):
        note(thresholds, asked, result)
    assert passed(thresholds) == [("daily", 80, 80)] * 3


@pytest.mark.parametrize("quota", [None, 0])
def test_no_quota_and_a_quota_of_nothing(quota: int | None) -> None:
    """Without a quota, or with a quota of 0, no threshold is passed."""
    thresholds = Thresholds()
    note(thresholds, spend(daily=quota, monthly=quota), spent(10**12, 10**12))
    assert passed(thresholds) == []


def test_waiting_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While events cannot be written, memory is bounded; dropped ones are noticed by the next request."""
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    thresholds = Thresholds()
    note(thresholds, spend(), spent(100))
    assert passed(thresholds) == [("daily", 80, 100), ("daily", 90, 100)]
    note(thresholds, spend(), spent(100))
    assert passed(thresholds) == [("daily", 100, 100)]


def test_remembered_windows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that was evicted is noticed twice, which the store of events detects."""
    monkeypatch.setattr(module, "REMEMBERED_MAX", 3)
    thresholds = Thresholds()
    for number in range(10):
        note(thresholds, spend(f"org-{number}"), spent(80))
        assert len(thresholds._highest) <= 3
    assert len(passed(thresholds)) == 10
    note(thresholds, spend("org-0"), spent(80))
    assert passed(thresholds) == [("daily", 80, 80)]


def test_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that was not announced is returned again, before new ones."""
    monkeypatch.setattr(module, "EVENTS_PER_CALL_MAX", 2)
    thresholds = Thresholds()
    note(thresholds, spend(), spent(100))
    first = thresholds.next()
    assert thresholds.next() == first
    note(thresholds, replace(spend(), owner=Owner("tenant", "org-2")), spent(80))
    thresholds.announced(first)
    assert [(event.tenant_id, event.threshold) for event in thresholds.next()] == [("org-1", 100), ("org-2", 80)]
