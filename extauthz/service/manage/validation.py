"""What may be said of a key or an organization: checked where it is written, in words that name what is wrong."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from zoneinfo import available_timezones

from extauthz.core.calendar import is_timezone
from extauthz.core.errors import InvalidInput
from extauthz.core.limit_kinds import LIMIT_COLUMNS
from extauthz.core.limits import Limits, Rate
from extauthz.core.management import KeyTerms, parse_metadata
from extauthz.core.masking import shown
from extauthz.core.parsing import normal_name, unfit
from extauthz.core.permissions import Permissions, mistakes, unknown_resources
from extauthz.core.resources import Resources

LAST_YEAR = 9998  # in UTC; the year after it is Python's last, and only in some time zones
ANCHOR_MAX = 31
_TOO_LATE = datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)
_NO_PLACE = "Factory"  # stands in the time zone database for a machine whose zone was never set
_FIELDS = ("name", "permissions", "expires_at", "metadata", *LIMIT_COLUMNS)


def check(terms: KeyTerms, resources: Collection[str] | None, now: datetime) -> KeyTerms:
    """The terms as they are stored. Raises InvalidInput where a key cannot have them.

    `resources` None: routes take any name.
    """
    check_permissions(terms.permissions, resources)
    check_expiry(terms.expires_at, now)
    _metadata(terms.metadata)
    return replace(terms, name=name(terms.name))


def check_permissions(permissions: Permissions, resources: Collection[str] | None) -> None:
    """Raises InvalidInput that names malformed resources and modes, and resources that no route has."""
    if wrong := mistakes(permissions):
        raise InvalidInput(f"permissions: {'; '.join(wrong)}")
    if resources is not None and (unknown := unknown_resources(permissions, resources)):
        known = ", ".join(sorted(resources)) or "none"
        raise InvalidInput(
            f"permissions: no route has the resource {', '.join(map(shown, unknown))}; those of the configuration"
            f" (without a file: api) have: {known}{_meant(unknown, resources)}"
        )


def _meant(unknown: Sequence[str], resources: Collection[str]) -> str:
    if not isinstance(resources, Resources):
        return ""
    meant = {name: resources.meant(name) for name in unknown}
    words = [f"{name} for {shown(wrong)}" if len(unknown) > 1 else name for wrong, name in meant.items() if name]
    return f"; did you mean {', '.join(words)}?" if words else ""


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Raises InvalidInput for an expiry that is over, beyond LAST_YEAR, or without a time zone."""
    end("expires_at", expires_at, now)


def end(field: str, value: object, now: datetime) -> datetime | None:
    """A time after `now`, at most in LAST_YEAR, with its zone; None is never. Raises InvalidInput."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidInput(f"{field} must be a time")
    if value.tzinfo is None:
        raise InvalidInput(f"{field} must have a time zone (got {value.isoformat()})")
    if value >= _TOO_LATE:
        raise InvalidInput(f"{field} must be at most in the year {LAST_YEAR}, in UTC (got {value.isoformat()})")
    if value <= now:
        raise InvalidInput(f"{field} {value.isoformat()} is in the past")
    return value


def changed(
    before: KeyTerms, changes: Mapping[str, object], resources: Collection[str] | None, now: datetime
) -> KeyTerms:
    """The terms after `changes`: by field, null clears. Only what is changed is checked. Raises InvalidInput."""
    known_fields(changes, _FIELDS)
    after = before
    if "name" in changes:
        after = replace(after, name=name(changes["name"]))
    if "permissions" in changes:
        permissions = _permissions(changes["permissions"])
        check_permissions(permissions, resources)
        after = replace(after, permissions=permissions)
    if "expires_at" in changes:
        after = replace(after, expires_at=end("expires_at", changes["expires_at"], now))
    if "metadata" in changes:
        after = replace(after, metadata=_metadata(changes["metadata"] or {}))
    if own := {name: changes[name] for name in LIMIT_COLUMNS if name in changes}:
        after = replace(after, limits=limits(before.limits.to_record() | own))
    return after


def limits(record: Mapping[str, object]) -> Limits:
    """The limits of a record that a person wrote. Raises InvalidInput."""
    try:
        rate = record.get("rate")
        if isinstance(rate, str):
            Rate.parse(rate)  # unlike the reader of records, it repeats to a person what it cannot take
        return Limits.from_record(record)
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def known_fields(changes: Mapping[str, object], fields: Collection[str]) -> None:
    """Raises InvalidInput that names what cannot be changed."""
    if unknown := sorted(set(changes) - set(fields)):
        raise InvalidInput(f"{', '.join(unknown)} cannot be changed; what can: {', '.join(fields)}")


def text(field: str, value: object) -> str:
    """A text. Raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a text")
    return value


def name(value: object) -> str:
    """A name as it is stored: two that look the same are the same. Raises InvalidInput."""
    normal = normal_name(text("name", value))
    if character := unfit(normal):
        raise InvalidInput(f"name must hold no control and no invisible character (got {character})")
    return normal


def one_of(field: str, value: object, words: Collection[str]) -> str:
    """One of a few words. Raises InvalidInput."""
    word = text(field, value)
    if word not in words:
        raise InvalidInput(f"{field} is {' or '.join(words)}")
    return word


def timezone(value: object) -> str:
    """The name of a time zone. Raises InvalidInput that suggests one."""
    name = text("timezone", value)
    if is_timezone(name) and not name.startswith(("posix/", "right/")) and name != _NO_PLACE:
        return name
    near = {known.lower(): known for known in available_timezones() - {_NO_PLACE}}
    similar = get_close_matches(name.lower().replace(" ", "_"), near, n=1)
    advice = f"did you mean {near[similar[0]]}?" if similar else "one is Europe/Berlin"
    raise InvalidInput(f"timezone must be a name of the time zone database (got {shown(name)!r}); {advice}")


def anchor(value: object) -> int:
    """The day on which months begin. Raises InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= ANCHOR_MAX:
        raise InvalidInput(f"anchor must be a whole number from 1 to {ANCHOR_MAX}")
    return value


def utc_now() -> datetime:
    """The clock by which a person's times are judged."""
    return datetime.now(UTC)


def _permissions(value: object) -> Permissions:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str)
        and isinstance(modes, Collection)
        and not isinstance(modes, str)
        and all(isinstance(mode, str) for mode in modes)
        for name, modes in value.items()
    ):
        raise InvalidInput("permissions must be an object of lists of modes")
    return {name: frozenset(modes) for name, modes in value.items()}


def _metadata(value: object) -> Mapping[str, str]:
    try:
        return parse_metadata(value)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
