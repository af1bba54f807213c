"""What an organization used on a day, as people ask for it: what PostgreSQL knows, and what Redis counted since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Protocol

from extauthz.core.records import Listing
from extauthz.core.usage import Span, Tally


class Charged(NamedTuple):
    """What a key was charged on a day, as its organization's hash has it. `revision` goes up with every change."""

    cost: int = 0
    allowed: int = 0
    revision: int = 0


class Live(NamedTuple):
    """What Redis has counted: of each key on a day, and the cost of the organization by field.

    Each is what it is and what it was when Redis went on without PostgreSQL, which may know of that part; the same
    twice where it never did.
    """

    keys: Mapping[str, tuple[Charged, Charged]]
    costs: Mapping[str, tuple[int, int]]


NOTHING = Live({}, {})


class UsageReport(Protocol):
    """What is saved of usage for good. Every method may raise StoreUnavailable."""

    async def of_day(self, tenant_id: str, day: date) -> Mapping[str, tuple[Tally, int]]:
        """By the id of a key: what it used on a day, and the revision of that."""
        ...

    async def totals(self, tenant_id: str, spans: Sequence[Span]) -> Mapping[str, int]:
        """By the field of a span: the cost of all keys of an organization."""
        ...


class LiveUsage(Protocol):
    """What is counted and perhaps not saved yet."""

    async def read(self, tenant_id: str, day_field: str, fields: Sequence[str]) -> Live:
        """Each key on a day, by the day's field, and the organization's cost by `fields`. Raises StoreUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What an organization used on a day. `remaining` is what its quotas leave it now, whichever day was asked for.

    `complete` False: what Redis has counted in the last seconds is missing.
    """

    organization_id: str
    day: date
    tally: Tally
    remaining: Mapping[str, int | None]
    by_key: Listing[tuple[str, Tally]]
    complete: bool

    def to_json(self) -> dict[str, object]:
        """One JSON object; the day in ISO 8601, null where there is no such quota."""
        return {
            "organization_id": self.organization_id,
            "day": self.day.isoformat(),
            **self.tally._asdict(),
            "remaining": dict(self.remaining),
            "complete": self.complete,
            "items": [{"api_key_id": key_id, **tally._asdict()} for key_id, tally in self.by_key.items],
            "next": self.by_key.next,
        }


def by_key(saved: Mapping[str, tuple[Tally, int]], live: Live) -> dict[str, Tally]:
    """What each key used on a day, by its id, in the order of ids."""
    return {key_id: _tally(*saved.get(key_id, (Tally(), 0)), live, key_id) for key_id in sorted({*saved, *live.keys})}


def _tally(saved: Tally, revision: int, live: Live, key_id: str) -> Tally:
    here, was = live.keys.get(key_id, (Charged(), Charged()))
    known = was if was.revision > revision else Charged(saved.cost, saved.allowed)
    return saved._replace(cost=known.cost + here.cost - was.cost, allowed=known.allowed + here.allowed - was.allowed)


def total(tallies: Mapping[str, Tally]) -> Tally:
    """The sums over all keys."""
    return Tally(*map(sum, zip(*tallies.values(), strict=True))) if tallies else Tally()


def left(quota: int | None, field: str, saved: Mapping[str, int], live: Live) -> int | None:
    """What is left of a quota whose counter is `field`; None where there is none."""
    here, was = live.costs.get(field, (0, 0))
    used = max(saved.get(field, 0), was) + here - was
    return None if quota is None else max(quota - used, 0)
