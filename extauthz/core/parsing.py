"""Times and names as a person types them, the same for every way in."""

import re
import unicodedata
from datetime import UTC, date, datetime, timedelta

# Characters that no name holds, as ranges of a regular expression.
UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u2028\u2029"  # break a line, or steer a terminal
INVISIBLE = (
    # The code points that Unicode says to ignore where they cannot be shown (zero width, direction, fillers, variants),
    # the blank of Braille, those for private use, and noncharacters: two of them look the same.
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ue000-\uf8ff"
    # as themselves: a pattern of JSON Schema has no escape for them
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
BLANKS = r"\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"  # look like a space

_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,18})([smhd])", re.ASCII)
_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_UNFIT = re.compile(f"[{UNPRINTABLE}{INVISIBLE}]")
_BLANK = re.compile(f"[{BLANKS}]")


def parse_moment(text: str) -> datetime:
    """A full date and time of ISO 8601 with its zone, and nothing shorter. ValueError says what is right."""
    if not _MOMENT.fullmatch(text):
        raise ValueError("must be a time in ISO 8601 with a zone, as 2030-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError("must be a valid date and time") from None


def parse_duration(text: str) -> timedelta | None:
    """A duration such as 90s, 15m, 1h or 30d, at most the longest that Python has; None where it is none."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    try:
        return int(found[1]) * _UNITS[found[2]]
    except OverflowError:
        return timedelta.max


def parse_since(text: str, now: datetime) -> datetime:
    """A time of ISO 8601 with its zone, or a duration before `now`, as 24h. ValueError says what is right."""
    ago = parse_duration(text)
    if ago is None:
        try:
            return parse_moment(text)
        except ValueError as error:
            raise ValueError(f"{error}, or a duration such as 90s, 15m, 24h or 30d") from None
    try:
        return now - ago
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def parse_day(text: str) -> date:
    """A date of ISO 8601, and nothing shorter. ValueError says what is right."""
    if not _DAY.fullmatch(text):
        raise ValueError("must be a date like 2030-01-31")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a valid date") from None


def parse_month(text: str) -> date:
    """The first date of a month of ISO 8601, as 2030-01. ValueError says what is right."""
    if not _MONTH.fullmatch(text):
        raise ValueError("must be a month like 2030-01")
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise ValueError("must be a year from 0001 and a month from 01 to 12") from None


def normal_name(name: str) -> str:
    """A name as it is stored and looked up: in Unicode's composed form (NFC), with every blank a space."""
    return name if name.isascii() else unicodedata.normalize("NFC", _BLANK.sub(" ", name))


def unfit(name: str) -> str:
    """The first character that no name holds, as `U+200B`; empty where there is none."""
    match = _UNFIT.search(name)
    return f"U+{ord(match[0]):04X}" if match else ""


def visible(text: str) -> str:
    """A text with escapes for what breaks a line, steers a terminal, cannot be seen or passes for a space."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each.isprintable() and not _UNFIT.match(each) else ascii(each)[1:-1] for each in text)
