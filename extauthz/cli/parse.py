"""From what a person types to values. A mistake is InvalidInput: one line that names the option and what is right."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from extauthz.core.errors import InvalidInput
from extauthz.core.limit_kinds import QUOTA_COLUMNS
from extauthz.core.limits import BURST_MAX, QUOTA_MAX, Limits, Rate
from extauthz.core.masking import shown
from extauthz.core.parsing import parse_day, parse_duration, parse_moment, parse_month, parse_since, unfit
from extauthz.core.permissions import ANY_RESOURCE, FULL_ACCESS, MODES, RESOURCE_NAME, Permissions
from extauthz.service.manage.rotation import GRACE_MAX
from extauthz.service.manage.validation import ANCHOR_MAX, LAST_YEAR

NONE = "none"  # what clears something: a limit, an expiry, all metadata

_LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}", re.ASCII)
_TOO_FAR = datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)
_WHOLE = re.compile(r"[0-9]{1,18}")
_RANGES = {"burst": (1, BURST_MAX)} | dict.fromkeys(QUOTA_COLUMNS, (0, QUOTA_MAX))


def limits(options: Mapping[str, str | None]) -> dict[str, object]:
    """The limits that were given, by their names in a record; `none` as null.

    `options`: what was typed, by column, None for what was not.
    """
    given = {name: text for name, text in options.items() if text is not None}
    return {name: None if text == NONE else _limit(name, text) for name, text in given.items()}


def own_limits(options: Mapping[str, str | None]) -> Limits:
    """The limits of something new; without an option there is no limit. `options` as above."""
    try:
        return Limits.from_record(Limits().to_record() | limits(options))
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def _limit(name: str, text: str) -> str | int:
    if name == "rate":
        return _rate(text)
    low, high = _RANGES[name]
    if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
        option = f"--{name.replace('_', '-')}"
        raise InvalidInput(f"{option} must be a whole number from {low} to {high}, or {NONE} (got {shown(text)!r})")
    return int(text)


def count(what: str, text: str) -> int:
    """A whole number as it was typed."""
    if not _WHOLE.fullmatch(text) or int(text) > QUOTA_MAX:
        raise InvalidInput(f"{what} must be a whole number of at most {QUOTA_MAX} (got {shown(text)!r})")
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
        return _after("--expires-in", expires_in, now)
    return None if expires_at is None else _moment("--expires-at", expires_at)


def new_expiry(expires_in: str | None, expires_at: str | None, now: datetime) -> dict[str, object]:
    """The change of when a key ends: empty where neither option was given, null for `--expires-at none`."""
    if expires_in is None and expires_at is None:
        return {}
    if expires_in is None and expires_at == NONE:
        return {"expires_at": None}
    return {"expires_at": expiry(expires_in, expires_at, now)}


def until(text: str, now: datetime) -> datetime | None:
    """When an organization's own limits end: a time, or a duration from `now`; `none` is never."""
    if parse_duration(text) is not None:
        return _after("--until", text, now)
    return None if text == NONE else _moment("--until", text)


def since(text: str | None, now: datetime, *, option: str = "--since") -> datetime | None:
    """A time, or a duration before `now`, as it was typed for an option; None where none was."""
    try:
        return None if text is None else parse_since(text, now)
    except ValueError as error:
        raise InvalidInput(f"{option} {error} (got {shown(text or '')!r})") from None


def anchor(text: str) -> int:
    """The day on which a month begins."""
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= ANCHOR_MAX:
        raise InvalidInput(f"--anchor must be a day from 1 to {ANCHOR_MAX} (got {shown(text)!r})")
    return int(text)


def day(text: str | None, *, option: str = "--day") -> date | None:
    """A day as it was typed for an option; None where none was."""
    try:
        return None if text is None else parse_day(text)
    except ValueError as error:
        raise InvalidInput(f"{option} {error} (got {shown(text or '')!r})") from None


def month(text: str | None) -> date | None:
    """The first date of a month as it was typed; None where none was."""
    try:
        return None if text is None else parse_month(text)
    except ValueError as error:
        raise InvalidInput(f"--month {error} (got {shown(text or '')!r})") from None


def grace(text: str) -> timedelta:
    """How long the old key of a rotation still works; `0s` is not at all."""
    length = _duration("--grace", text)
    if length > GRACE_MAX:
        raise InvalidInput(f"--grace must be at most {GRACE_MAX.days}d (got {text})")
    return length


def _after(option: str, text: str, now: datetime) -> datetime:
    length = _duration(option, text)
    if not length:
        raise InvalidInput(f"{option} must be above 0 (got {text})")
    try:
        end = now + length
    except OverflowError:
        end = datetime.max.replace(tzinfo=UTC)
    return _within_reach(end, option, text)


def _duration(option: str, text: str) -> timedelta:
    length = parse_duration(text)
    if length is None:
        raise InvalidInput(f"{option} must be a duration such as 90s, 15m, 1h or 30d (got {shown(text)!r})")
    return length


def _moment(option: str, text: str) -> datetime:
    try:
        moment = parse_moment(text)
    except ValueError as error:
        if _LOCAL.fullmatch(text):
            raise InvalidInput(f"{option} must have a time zone (got {text}); in UTC: {text}Z") from None
        raise InvalidInput(f"{option} {error} (got {shown(text)!r})") from None
    return _within_reach(moment, option, text)


def _within_reach(moment: datetime, option: str, text: str) -> datetime:
    if moment >= _TOO_FAR:
        raise InvalidInput(f"{option} must be at most in the year {LAST_YEAR} (got {text})")
    return moment


def name(text: str | None) -> str | None:
    """A name as it was typed. Raises InvalidInput for one that would break a line, or look like another."""
    if text is not None and (character := unfit(text)):
        raise InvalidInput(f"a name must hold no control and no invisible character (got {character})")
    return text


def permissions(texts: Sequence[str]) -> Permissions:
    """`RESOURCE:MODE`, each once or more, merged into one map; full access where none is given."""
    granted: dict[str, set[str]] = {}
    for text in texts:
        resource, _, mode = text.rpartition(":")
        if resource != ANY_RESOURCE and not RESOURCE_NAME.fullmatch(resource):
            raise InvalidInput(
                f"--permission must be RESOURCE:MODE, such as customer:read (got {shown(text)!r}); a resource is 1 to"
                f" 64 of A-Z a-z 0-9 _ -, or {ANY_RESOURCE} for all"
            )
        if mode not in MODES:
            raise InvalidInput(f"the mode of --permission must be {' or '.join(MODES)} (got {shown(text)!r})")
        granted.setdefault(resource, set()).add(mode)
    return {resource: frozenset(modes) for resource, modes in granted.items()} or FULL_ACCESS


def metadata(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE`, each name once; `none` alone is an empty map."""
    if list(texts) == [NONE]:
        return {}
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InvalidInput(
                f"--metadata must be NAME=VALUE, such as team=billing, or {NONE} alone (got {shown(text)!r})"
            )
        if name in pairs:
            raise InvalidInput(f"--metadata must name each entry once (got {shown(name)!r} twice)")
        pairs[name] = value
    return pairs
