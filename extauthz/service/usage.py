"""What organizations have used, as a person asks for it; the same for every way in."""

from collections.abc import Mapping
from datetime import date

from extauthz.core.errors import InvalidInput, NotFound, StoreCorrupt, StoreUnavailable
from extauthz.core.ports import Source
from extauthz.core.records import Listing, looks_like_id
from extauthz.core.spend import spans
from extauthz.core.stores import TenantStore
from extauthz.core.tenants import Tenant
from extauthz.core.usage import Tally
from extauthz.core.usage_report import NOTHING, DayUsage, LiveUsage, UsageReport, by_key, left, total
from extauthz.service.terms import utc_now


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

    async def day(
        self, ref: str, day: date | None = None, *, limit: int | None = 50, cursor: str | None = None
    ) -> DayUsage:
        """What an organization (id or name) used on a day of its calendar, by default today; zeros where nothing was.

        `by_key` is one page of its keys in the order of their ids, of all where `limit` is None. While Redis is away,
        the last seconds are missing. Raises NotFound; InvalidInput for a day that has not begun; StoreUnavailable.
        """
        now = utc_now().timestamp()
        tenant = await self._tenant(ref, now)
        _, today, _, _, month, _ = spans(tenant.calendar.round(now))
        asked = day or today.first
        if asked > today.first:
            raise InvalidInput(f"day {asked} has not begun; today is {today.first} ({tenant.calendar.timezone})")
        complete, live = True, NOTHING
        try:
            # Before PostgreSQL: what is saved and dropped here in between is found there.
            live = await self._live.read(tenant.id, f"d:{asked:%Y%m%d}", (today.field, month.field))
        except StoreUnavailable:
            complete = False
        tallies = by_key(await self._usage.of_day(tenant.id, asked), live)
        saved = await self._usage.totals(tenant.id, (today, month))
        limits = tenant.limits_at(now)
        return DayUsage(
            organization_id=tenant.id,
            day=asked,
            tally=total(tallies),
            remaining={
                "daily": left(limits.daily_quota, today.field, saved, live),
                "monthly": left(limits.monthly_quota, month.field, saved, live),
            },
            by_key=_page(tallies, limit, cursor),
            complete=complete,
        )

    async def _tenant(self, ref: str, now: float) -> Tenant:
        organization = await self._tenants.show_organization(ref)
        (found,) = await self._sources.find([organization.id], now)
        if isinstance(found, StoreCorrupt):
            raise found
        if found is None:
            raise NotFound(f"the organization {organization.id} was deleted at this moment")
        return found


def _page(tallies: Mapping[str, Tally], limit: int | None, cursor: str | None) -> Listing[tuple[str, Tally]]:
    if cursor is not None and not looks_like_id(cursor):
        raise InvalidInput("cursor is none that a list has given out as the place of its next page")
    rest = [(key_id, tally) for key_id, tally in tallies.items() if cursor is None or key_id > cursor]
    shown = rest if limit is None else rest[:limit]
    return Listing(shown, shown[-1][0] if len(shown) < len(rest) else None)
