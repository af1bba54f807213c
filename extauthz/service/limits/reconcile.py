"""Completes provisional counters, which began without PostgreSQL, as soon as it is back, with or without requests."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta

from extauthz.core.calendar import UTC_CALENDAR, Calendar
from extauthz.core.errors import StoreCorrupt
from extauthz.core.ports import Source
from extauthz.core.spend import spans
from extauthz.core.tenants import Tenant
from extauthz.core.usage import Span
from extauthz.service.limits.restore import CounterRestorer

DAY = timedelta(days=1)


class CounterReconciler:
    """Completes provisional counters from saved usage."""

    def __init__(
        self,
        tenants: Source[str, Tenant],
        restorer: CounterRestorer,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tenants = tenants
        self._restorer = restorer
        self._clock = clock

    async def complete(self, incomplete: Mapping[str, Sequence[date]]) -> bool:
        """Complete the counters of tenants, each with the days of its charges. Raises StoreUnavailable.

        Returns False where there may be usage to save now, which is where there were any. A tenant whose record is
        corrupt waits until it is repaired; one that is deleted has no limits any more, but its bill is complete.
        """
        now, names = self._clock(), list(incomplete)
        wanted: dict[str, list[Span]] = {}
        for start in range(0, len(names), self._tenants.at_once):
            part = names[start : start + self._tenants.at_once]
            for name, tenant in zip(part, await self._tenants.find(part, now), strict=True):
                if not isinstance(tenant, StoreCorrupt):
                    wanted[name] = _spans(UTC_CALENDAR if tenant is None else tenant.calendar, incomplete[name], now)
        await self._restorer.complete(wanted)
        return not names


def _spans(calendar: Calendar, days: Sequence[date], now: float) -> list[Span]:
    """Return the days and months round now, and those of the charges."""
    found = {span.field: span for span in spans(calendar.round(now))}
    for day in days:
        first, after = calendar.month_of(day)
        for span in (Span(f"d:{day:%Y%m%d}", day, day + DAY), Span(f"m:{first:%Y%m%d}", first, after)):
            found.setdefault(span.field, span)
    return list(found.values())
