"""What organizations have used, as a person asks for it; the same for every way in."""

from collections.abc import Sequence
from contextlib import suppress

from extauthz.core.errors import InvalidInput, NotFound, StoreCorrupt, StoreUnavailable
from extauthz.core.limit_kinds import DAYS, HOURS, MONTHS, QUOTAS
from extauthz.core.management import Listing, looks_like_id
from extauthz.core.management_ports import TenantStore
from extauthz.core.parsing import parse_day
from extauthz.core.ports import Source
from extauthz.core.spend import hour_field, spans
from extauthz.core.tenants import Tenant
from extauthz.core.usage_range import TODAY, By, Period, UsageRange
from extauthz.core.usage_report import (
    NOTHING,
    Live,
    LiveUsage,
    Usage,
    UsageReport,
    UsageRow,
    by_key,
    by_period,
    left,
    merged,
    total,
)
from extauthz.service.manage.validation import utc_now


class UsageService:
    """Reads what is saved, and over it what Redis has counted since."""

    def __init__(
        self, *, tenants: TenantStore, sources: Source[str, Tenant], usage: UsageReport, live: LiveUsage
    ) -> None:
        """`sources` has the calendar and the limits of an organization, as checks read them."""
        self._tenants = tenants
        self._sources = sources
        self._usage = usage
        self._live = live

    async def report(
        self,
        ref: str,
        days: UsageRange = TODAY,
        *,
        by: By = "key",
        limit: int | None = 50,
        cursor: str | None = None,
    ) -> Usage:
        """What an organization (id or name) used on days of its calendar; zeros where nothing was.

        `rows` are one page of its keys in the order of their ids, or of days or months, the oldest first; all of them
        where `limit` is None. While Redis is away, the last seconds are missing.
        Raises NotFound, InvalidInput, StoreUnavailable.
        """
        now = utc_now().timestamp()
        tenant = await self._tenant(ref, now)
        windows = tenant.calendar.round(now, hours=True)
        _, today, _, _, month, _ = spans(windows)
        counters = {DAYS: today.field, MONTHS: month.field, HOURS: hour_field(windows, 1)}
        period = days.period(tenant.calendar, today.first)
        complete, live = True, NOTHING
        try:
            # Before PostgreSQL: what is saved and dropped here in between is found there.
            live = await self._live.read(tenant.id, period, list(counters.values()))
        except StoreUnavailable:
            complete = False
        rows = await self._rows(tenant, period, by, live=live)
        saved = await self._usage.totals(tenant.id, (today, month))
        limits = tenant.limits_at(now)
        return Usage(
            organization_id=tenant.id,
            period=period,
            by=by,
            tally=total(row.tally for row in rows),
            remaining={
                quota.name: left(size, counters[quota.windows], saved, live)
                for quota, size in zip(QUOTAS, limits.quotas, strict=True)
            },
            rows=await self._named(_page(rows, by, limit=limit, cursor=cursor)),
            complete=complete,
            today=today.first,
        )

    async def _rows(self, tenant: Tenant, period: Period, by: By, *, live: Live) -> list[UsageRow]:
        saved = await self._usage.of_period(tenant.id, period, by_key=by == "key", apart=live.days)
        used = merged(saved, live)
        if by == "key":
            return by_key(used, period)
        return by_period(used, list(period.days() if by == "day" else period.months(tenant.calendar)))

    async def _named(self, page: Listing[UsageRow]) -> Listing[UsageRow]:
        """A page of rows with the names of their keys."""
        ids = [row.key_id for row in page.items if row.key_id is not None]
        names = await self._usage.key_names(ids) if ids else {}
        return Listing([row._replace(key_name=names.get(row.key_id or "")) for row in page.items], page.next)

    async def _tenant(self, ref: str, now: float) -> Tenant:
        organization = await self._tenants.show_organization(ref)
        (found,) = await self._sources.find([organization.id], now)
        if isinstance(found, StoreCorrupt):
            raise found
        if found is None:
            raise NotFound(f"the organization {organization.id} was deleted at this moment")
        return found


def _page(rows: Sequence[UsageRow], by: By, *, limit: int | None, cursor: str | None) -> Listing[UsageRow]:
    if cursor is not None and not _is_place(cursor, by):
        raise InvalidInput("cursor must be one that this list has given out as `next`")
    rest = [row for row in rows if cursor is None or row.place > cursor]
    shown = rest if limit is None else rest[:limit]
    return Listing(shown, shown[-1].place if len(shown) < len(rest) else None)


def _is_place(text: str, by: By) -> bool:
    if by == "key":
        return looks_like_id(text)
    with suppress(ValueError):
        parse_day(text)
        return True
    return False
