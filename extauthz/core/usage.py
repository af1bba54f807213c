"""What is counted of organizations and keys, as it goes from Redis to PostgreSQL and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

ORGANIZATION = ""  # stands for the organization itself where a key's id is expected
CREDITS_FIELD = "credits"  # of a Seed: what is used of credits, in no span
THRESHOLDS = (80, 90, 100)  # percent of a quota that are an event


def passed_at(limit: int, threshold: int) -> int:
    """The count from which on a quota of `limit` has passed a threshold."""
    return -(-limit * threshold // 100)


class Counted(NamedTuple):
    """What a key was charged on a day, all of it. `revision` goes up with every change of the others."""

    tenant_id: str
    key_id: str
    day: date
    allowed: int
    cost: int
    revision: int


class CreditsUsed(NamedTuple):
    """What is used of the credits of a key, or of its organization (`key_id` ORGANIZATION), since the first grant."""

    tenant_id: str
    key_id: str
    used: int


class Refused(NamedTuple):
    """Refusals of a key on a day that are not written down yet."""

    tenant_id: str
    key_id: str
    day: date
    rate_limited: int
    over_quota: int


class Tally(NamedTuple):
    """Sums over a day: `allowed` requests, the `cost` they were charged, refusals by a bucket and by a quota."""

    allowed: int = 0
    cost: int = 0
    rate_limited: int = 0
    over_quota: int = 0


class Span(NamedTuple):
    """A day or month whose counters are wanted: the counter's field, its first date, the date after its last."""

    field: str
    first: date
    after: date


class Seed(NamedTuple):
    """What PostgreSQL has of a span, or of credits in CREDITS_FIELD.

    `key_id` is ORGANIZATION for the sum of all keys, and for an organization's own credits.
    """

    field: str
    key_id: str
    cost: int
    allowed: int
    revision: int


class QuotaEvent(NamedTuple):
    """An organization has used `threshold` percent of a quota, in the window that began on a date."""

    tenant_id: str
    quota: str
    window_start: date
    threshold: int
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class OldCounters:
    """Counters of one tenant that go once they are saved, as they were read: of each old day, and of old months."""

    days: dict[str, dict[str, str]] = field(default_factory=dict)
    months: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """What is to be saved, as it was read.

    `marks` are (tenant, key, seconds of Redis's clock), `read_at` is when they were read by that clock, and `position`
    how many marks were passed over before them. Tenants that are `incomplete` were charged on these days without what
    was before: they wait, with their marks. `old` goes once the batch is saved. `last`: there was nothing behind it.
    """

    marks: Sequence[tuple[str, str, float]]
    read_at: float
    counted: Sequence[Counted]
    credits_used: Sequence[CreditsUsed] = ()
    incomplete: Mapping[str, Sequence[date]] = field(default_factory=dict)
    old: Mapping[str, OldCounters] = field(default_factory=dict)
    position: int = 0
    last: bool = True
