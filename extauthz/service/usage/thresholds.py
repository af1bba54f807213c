"""An organization has used 80, 90 or 100 % of a quota: noticed by every worker, said once in each window."""

from collections.abc import Sequence
from datetime import date

from extauthz.core.calendar import DaysAndMonths
from extauthz.core.spend import DAILY, MONTHLY, InWindows, Spend
from extauthz.core.usage import THRESHOLDS, QuotaEvent

REMEMBERED_MAX = 50_000  # windows; one that is forgotten is noticed anew, which PostgreSQL knows
WAITING_MAX = 10_000  # events; those beyond are noticed again by the next request
AT_ONCE = 1000


class Thresholds:
    """What this process has noticed, and what of it waits to be written down.

    A quota of 0 is always used up, and passes nothing.
    """

    def __init__(self) -> None:
        self._highest: dict[tuple[str, str, date], int] = {}
        self._waiting: list[QuotaEvent] = []

    def note(self, asked: Spend, windows: DaysAndMonths, spent: InWindows) -> None:
        """Notices what an organization's counters have passed, all of it where they jumped."""
        limits = asked.limits
        for quota, limit, used, first in (
            (DAILY, limits.daily_quota, spent.by_day, windows.days.dates[spent.day]),
            (MONTHLY, limits.monthly_quota, spent.by_month, windows.months.dates[spent.month]),
        ):
            if limit and used * 100 >= limit * THRESHOLDS[0]:
                self._notice(QuotaEvent(asked.owner.id, quota, first, THRESHOLDS[0], used, limit))

    def next(self) -> Sequence[QuotaEvent]:
        """Events to be written down, in the order in which they were noticed."""
        return self._waiting[:AT_ONCE]

    def announced(self, events: Sequence[QuotaEvent]) -> None:
        """What `next` returned is written down, by us or somebody else."""
        del self._waiting[: len(events)]

    def _notice(self, event: QuotaEvent) -> None:
        window = event.tenant_id, event.quota, event.window_start
        highest = self._highest.get(window, 0)
        for threshold in THRESHOLDS:
            if threshold <= highest or event.used * 100 < event.limit * threshold:
                continue
            if len(self._waiting) >= WAITING_MAX:
                return
            if len(self._highest) >= REMEMBERED_MAX:
                self._highest.clear()
            self._highest[window] = threshold
            self._waiting.append(event._replace(threshold=threshold))
