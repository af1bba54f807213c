"""Usage of an organization, as reports show it: what PostgreSQL has saved, and what Redis has counted since."""

from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Protocol

from extauthz.core.management import Listing
from extauthz.core.usage import Span, Tally
from extauthz.core.usage_range import By, Period


class Charged(NamedTuple):
    """What a key was charged on a day, as its organization's hash has it. `revision` goes up with every change."""

    cost: int = 0
    allowed: int = 0
    revision: int = 0


class Live(NamedTuple):
    """What Redis has counted: by day, of each key; and the cost of the organization by field.

    Each is what it is and what it was when Redis went on without PostgreSQL, which may know of that part; the same
    twice where it never did.
    """

    days: Mapping[date, Mapping[str, tuple[Charged, Charged]]]
    costs: Mapping[str, tuple[int, int]]


NOTHING = Live({}, {})


class Figures(NamedTuple):
    """What was used, as it is saved: a sum of a key or of a day, where the other one is None, or what a key used on a
    day, with the revision of that.
    """

    day: date | None
    key_id: str | None
    tally: Tally
    revision: int


class UsageReport(Protocol):
    """What is saved of usage for good. Every method may raise StoreUnavailable."""

    async def of_period(
        self, tenant_id: str, period: Period, *, by_key: bool, apart: Collection[date]
    ) -> Sequence[Figures]:
        """The sums of keys, or else of days, without the days `apart`, of which every row is returned."""
        ...

    async def totals(self, tenant_id: str, spans: Sequence[Span]) -> Mapping[str, int]:
        """By the field of a span: the cost of all keys of an organization."""
        ...

    async def key_names(self, key_ids: Collection[str]) -> Mapping[str, str]:
        """The names of keys by their ids, without those that are gone."""
        ...


class LiveUsage(Protocol):
    """What is counted and perhaps not saved yet."""

    async def read(self, tenant_id: str, period: Period, fields: Sequence[str]) -> Live:
        """Each key on the days of a period, and the organization's cost by `fields`. Raises StoreUnavailable."""
        ...

    async def count(self, tenant_id: str, field: str) -> int:
        """One counter of an organization, 0 where there is none. Raises StoreUnavailable."""
        ...


class UsageRow(NamedTuple):
    """What one key used in a period, or, where `key_id` is None, all of them."""

    period: Period
    key_id: str | None
    tally: Tally
    key_name: str | None = None

    @property
    def place(self) -> str:
        """Where the row stands in the order of its list: after its key's id, or its first date."""
        return self.key_id or self.period.first.isoformat()

    def to_json(self) -> dict[str, object]:
        """One JSON object; the name of a key that is gone is null."""
        key = {} if self.key_id is None else {"api_key_id": self.key_id, "api_key_name": self.key_name}
        return {**_dates(self.period), **key, **self.tally._asdict()}


@dataclass(frozen=True, slots=True)
class Usage:
    """What an organization used in a period. `remaining` is what its quotas leave it now, whatever the period.

    `rows` are a page of its keys, days or months, as `by` says. `complete` False: what Redis has counted in the last
    seconds is missing.
    """

    organization_id: str
    period: Period
    by: By
    tally: Tally
    remaining: Mapping[str, int | None]
    rows: Listing[UsageRow]
    complete: bool
    today: date

    def to_json(self) -> dict[str, object]:
        """One JSON object; dates in ISO 8601, `day` is null where there are several, a quota where there is none."""
        first, last = self.period
        return {
            "organization_id": self.organization_id,
            "day": first.isoformat() if first == last else None,
            **_dates(self.period),
            **self.tally._asdict(),
            "remaining": dict(self.remaining),
            "complete": self.complete,
            "by": self.by,
            "items": [row.to_json() for row in self.rows.items],
            "next": self.rows.next,
        }


def _dates(period: Period) -> dict[str, object]:
    return {"from": period.first.isoformat(), "to": period.last.isoformat()}


def merged(saved: Iterable[Figures], live: Live) -> Iterator[Figures]:
    """What is saved, and on the days that Redis has, of each key what it used by now."""
    rows: dict[tuple[date, str], Figures] = {}
    for row in saved:
        if row.day is not None and row.day in live.days and row.key_id is not None:
            rows[row.day, row.key_id] = row
        else:
            yield row
    for day, keys in live.days.items():
        for key_id, (here, was) in keys.items():
            row = rows.pop((day, key_id), Figures(day, key_id, Tally(), 0))
            yield row._replace(tally=_tally(row.tally, row.revision, here, was))
    yield from rows.values()


def _tally(saved: Tally, revision: int, here: Charged, was: Charged) -> Tally:
    known = was if was.revision > revision else Charged(saved.cost, saved.allowed)
    return saved._replace(cost=known.cost + here.cost - was.cost, allowed=known.allowed + here.allowed - was.allowed)


def by_key(used: Iterable[Figures], period: Period) -> list[UsageRow]:
    """The sums of each key, in the order of ids."""
    sums: dict[str, Tally] = {}
    for row in used:
        if row.key_id is not None:
            sums[row.key_id] = total((sums.get(row.key_id, Tally()), row.tally))
    return [UsageRow(period, key_id, sums[key_id]) for key_id in sorted(sums)]


def by_period(used: Iterable[Figures], periods: Sequence[Period]) -> list[UsageRow]:
    """The sums of each of some periods in a row, zeros where nothing was used."""
    sums = [Tally()] * len(periods)
    begins = [period.first for period in periods]
    for row in used:
        if row.day is not None:
            index = bisect(begins, row.day) - 1
            sums[index] = total((sums[index], row.tally))
    return [UsageRow(period, None, tally) for period, tally in zip(periods, sums, strict=True)]


def total(tallies: Iterable[Tally]) -> Tally:
    """The sums of all of them."""
    return Tally(*map(sum, zip(*tallies, strict=True)))


def left(quota: int | None, field: str, saved: Mapping[str, int], live: Live) -> int | None:
    """What is left of a quota whose counter is `field`; None where there is none."""
    here, was = live.costs.get(field, (0, 0))
    used = max(saved.get(field, 0), was) + here - was
    return None if quota is None else max(quota - used, 0)
