"""A key takes another's place: which may be replaced, and how long both live."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from extauthz.core.errors import Conflict, InvalidInput
from extauthz.core.management import KeyDetails
from extauthz.service.manage.validation import LAST_YEAR

GRACE_MAX = timedelta(days=365)
_LAST = datetime(LAST_YEAR, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rotated:
    """A new key with the key itself (`secret`), this once; the `old` one; and whether the shared cache was told."""

    key: KeyDetails
    secret: str = field(repr=False)
    old: KeyDetails
    told: bool


def check_grace(grace: timedelta) -> None:
    """Raises InvalidInput for a grace period that cannot be."""
    if not timedelta(0) <= grace <= GRACE_MAX:
        raise InvalidInput(f"grace is from 0 to {GRACE_MAX.days} days")


def check_rotatable(key: KeyDetails, now: datetime) -> None:
    """Raises Conflict that says why a key cannot be replaced."""
    if key.rotated_to is not None:
        raise Conflict(f"the key was rotated already; its successor is {key.rotated_to}")
    status = key.status(now)
    if status != "active":
        raise Conflict(f"the key is {status}; only a key that is in force can be rotated")


def check_end_of_rotated(key: KeyDetails, expires_at: datetime | None) -> None:
    """Raises Conflict where a key that has a successor would end later than it was to: a grace period only shrinks."""
    if key.rotated_to is None or key.expires_at is None:
        return
    if expires_at is None or expires_at > key.expires_at:
        raise Conflict(
            f"the key was rotated and ends at {key.expires_at.isoformat()}, sooner if you say so, but not later;"
            f" its successor is {key.rotated_to}"
        )


def end_of_successor(old: KeyDetails, now: datetime) -> datetime | None:
    """As long from `now` as the old key was given; None where it was given forever."""
    if old.expires_at is None or old.expires_at.year > LAST_YEAR:
        return None
    try:
        return min(now + (old.expires_at - old.created_at), _LAST)
    except OverflowError:
        return _LAST


def end_of_old(old: KeyDetails, grace: timedelta, now: datetime) -> datetime:
    """The end of the grace period, unless the key ends before."""
    end = now + grace
    return end if old.expires_at is None else min(old.expires_at, end)
