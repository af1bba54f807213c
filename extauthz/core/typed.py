"""Times and names as a person types them, the same for every way in."""

import re
from datetime import date, datetime

UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u2028\u2029"  # what no name holds: it breaks a line, or steers a terminal

_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")


def parse_moment(text: str) -> datetime:
    """A full date and time of ISO 8601 with its zone, and nothing shorter. ValueError says what is right."""
    if not _MOMENT.fullmatch(text):
        raise ValueError("is no time in ISO 8601 with a zone, as 2030-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError("is a time that no calendar or clock has") from None


def parse_day(text: str) -> date:
    """A date of ISO 8601, and nothing shorter. ValueError says what is right."""
    if not _DAY.fullmatch(text):
        raise ValueError("is no date like 2030-01-31")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("is a date that no calendar has") from None


def printable(name: str) -> bool:
    """Whether a name has no control character and no line break."""
    return not _UNPRINTABLE.search(name)
