"""Thresholds of quotas: every worker notices what an organization has used, PostgreSQL keeps each event once."""

from collections.abc import Sequence
from datetime import date

from extauthz.core.calendar import CalendarWindows
from extauthz.core.limit_kinds import OWNER, QUOTAS
from extauthz.core.spend import Row, Spend
from extauthz.core.usage import THRESHOLDS, QuotaEvent, passed_at

REMEMBERED_MAX = 50_000  # windows; a dropped one is noticed again, and PostgreSQL refuses the second event
WAITING_MAX = 10_000  # events; those beyond are noticed again by the next request
EVENTS_PER_CALL_MAX = 1000


class Thresholds:
    """The thresholds that this process has noticed, and the events that are not written down yet.

    A quota of 0 has no thresholds.
    """

    def __init__(self) -> None:
        self._highest: dict[tuple[str, str, date], int] = {}
        self._waiting: list[QuotaEvent] = []

    def note(self, asked: Spend, windows: CalendarWindows, row: Row) -> None:
        """Notices every threshold that an organization's counters have passed."""
        for quota, limit in zip(QUOTAS, asked.limits.quotas, strict=True):
            if limit and row[quota.places[OWNER]] >= passed_at(limit, THRESHOLDS[0]):
                used, first = row[quota.places[OWNER]], windows[quota.windows].dates[row[quota.window_place] - 1]
                self._notice(QuotaEvent(asked.owner.id, quota.name, first, THRESHOLDS[0], used, limit))

    def next(self) -> Sequence[QuotaEvent]:
        """Events to be written down, in the order in which they were noticed."""
        return self._waiting[:EVENTS_PER_CALL_MAX]

    def announced(self, events: Sequence[QuotaEvent]) -> None:
        """Drops what `next` returned: it is written down, by this worker or another."""
        del self._waiting[: len(events)]

    def _notice(self, event: QuotaEvent) -> None:
        window = event.tenant_id, event.quota, event.window_start
        highest = self._highest.get(window, 0)
        for threshold in THRESHOLDS:
            if threshold <= highest or event.used < passed_at(event.limit, threshold):
                continue
            if len(self._waiting) >= WAITING_MAX:
                return
            if len(self._highest) >= REMEMBERED_MAX:
                self._highest.clear()
            self._highest[window] = threshold
            self._waiting.append(event._replace(threshold=threshold))
