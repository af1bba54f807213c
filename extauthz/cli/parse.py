"""From what a person types to values. A mistake is InvalidInput: one line that names the option and what is right."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from extauthz.core.errors import InvalidInput
from extauthz.core.limits import BURST_MAX, QUOTA_MAX, Rate
from extauthz.core.permissions import ANY_RESOURCE, FULL_ACCESS, MODES, RESOURCE_NAME, Permissions

NONE = "none"  # what clears a limit
LAST_YEAR = 9998  # the year after it is the last that Python knows, and only in some time zones

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"([0-9]{1,18})([smhd])")
_WHOLE = re.compile(r"[0-9]{1,18}")
_RANGES = {"burst": (1, BURST_MAX), "daily_quota": (0, QUOTA_MAX), "monthly_quota": (0, QUOTA_MAX)}


def limits(options: Mapping[str, str | None]) -> dict[str, object]:
    """The limits that were given, by their names in a record; `none` as null.

    `options`: what was typed for `rate`, `burst`, `daily_quota`, `monthly_quota`, None for what was not.
    """
    given = {name: text for name, text in options.items() if text is not None}
    return {name: None if text == NONE else _limit(name, text) for name, text in given.items()}


def _limit(name: str, text: str) -> str | int:
    if name == "rate":
        return _rate(text)
    low, high = _RANGES[name]
    if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
        option = f"--{name.replace('_', '-')}"
        raise InvalidInput(f"{option} {_shown(text)} is no whole number from {low} to {high}, nor {NONE}")
    return int(text)


def _rate(text: str) -> str:
    try:
        return str(Rate.parse(text))
    except ValueError as error:
        raise InvalidInput(f"--{error}") from None  # its text begins with the word `rate`


def expiry(expires_in: str | None, expires_at: str | None, now: datetime) -> datetime | None:
    """When a key ends, from whichever of the two options was given; None is never."""
    if expires_in is not None and expires_at is not None:
        raise InvalidInput("--expires-in and --expires-at exclude each other")
    if expires_in is not None:
        return _after(expires_in, now)
    return None if expires_at is None else _moment(expires_at)


def _after(text: str, now: datetime) -> datetime:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidInput(f"--expires-in {_shown(text)} is no duration like 90s, 15m, 1h or 30d")
    if int(match[1]) == 0:
        raise InvalidInput(f"--expires-in {text} is over at once; a duration is above 0")
    try:
        end = now + timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        end = datetime.max.replace(tzinfo=UTC)
    return _within_reach(end, "--expires-in", text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        example = "2030-01-31T12:00:00Z"
        raise InvalidInput(f"--expires-at {_shown(text)} is no time in ISO 8601, as {example}") from None
    if moment.tzinfo is None:
        raise InvalidInput(f"--expires-at {text} has no time zone; in UTC: {moment.isoformat()}Z")
    return _within_reach(moment, "--expires-at", text)


def _within_reach(moment: datetime, option: str, text: str) -> datetime:
    if moment.year > LAST_YEAR:
        raise InvalidInput(f"{option} {text} is too far away; the last year is {LAST_YEAR}")
    return moment


def permissions(texts: Sequence[str]) -> Permissions:
    """`RESOURCE:MODE`, each once or more, merged into one map; full access where none is given."""
    granted: dict[str, set[str]] = {}
    for text in texts:
        resource, _, mode = text.rpartition(":")
        if resource != ANY_RESOURCE and not RESOURCE_NAME.fullmatch(resource):
            raise InvalidInput(
                f"--permission {_shown(text)} is not RESOURCE:MODE, as customer:read; a resource is 1 to 64 of"
                f" A-Z a-z 0-9 _ -, or {ANY_RESOURCE} for all"
            )
        if mode not in MODES:
            raise InvalidInput(f"--permission {_shown(text)}: the mode is {' or '.join(MODES)}")
        granted.setdefault(resource, set()).add(mode)
    return {resource: frozenset(modes) for resource, modes in granted.items()} or FULL_ACCESS


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")
