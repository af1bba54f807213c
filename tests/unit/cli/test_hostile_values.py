"""Any text as an option or a setting gives a value, or one line that says what is right."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from extauthz.cli import parse
from extauthz.config import load
from extauthz.config.load import KEYS
from extauthz.core.errors import ConfigError, InvalidInput

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NUMBERS = [
    "",
    " ",
    "NaN",
    "inf",
    "-inf",
    "1e400",
    "1e3",
    "-1",
    "-0",
    "0x10",
    "1_000",
    "+5",
    "5 ",
    "5.0",
    "\u0663",
    "\uff11",
]
NUMBERS += ["9" * 30, "9" * 5000, "null", "true", "\x00", "5\n", "\ud800", "\u202e5", "%s", "{}"]
TIMES = ["", "0s", "0d", "-1h", "1w", "1H", "1h30m", "\u0663s", "9" * 19 + "d", "2030-01-31", "2030-01-31T12:00:00"]
TIMES += ["2030-02-30T00:00:00Z", "2030-01-31T24:00:00Z", "2030-01-31T12:00:60Z", "2030-01-31T12:00:00+99:00"]
TIMES += ["10000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9998-12-31T23:59:59-23:59", "0000-01-01T00:00:00Z"]
TIMES += ["1893456000", "tomorrow", "\ud800", "2030-01-31T12:00:00Z\n"]


def _limit(name: str) -> Callable[[str], object]:
    return lambda text: parse.limits({name: text})


_TAKES: dict[str, Callable[[str], object]] = {
    **{name: _limit(name) for name in ("rate", "burst", "daily_quota", "monthly_quota")},
    "anchor": parse.anchor,
    "day": parse.day,
    "month": parse.month,
    "grace": parse.grace,
    "expires-in": lambda text: parse.expiry(text, None, NOW),
    "expires-at": lambda text: parse.expiry(None, text, NOW),
    "until": lambda text: parse.until(text, NOW),
}
_TAKEN = {("rate", "5.0"), ("grace", "0s"), ("grace", "0d"), ("day", "2030-01-31")}
_TAKEN |= {("daily_quota", "1893456000"), ("monthly_quota", "1893456000")}


@pytest.mark.parametrize("name", _TAKES)
def test_options(name: str) -> None:
    """Values other than ASCII digits, dates and times with a zone are rejected, in one short line."""
    for text in (*NUMBERS, *TIMES):
        if (name, text) in _TAKEN:
            _TAKES[name](text)
            continue
        with pytest.raises(InvalidInput) as refused:
            _TAKES[name](text)
        assert len(str(refused.value).splitlines()) == 1, text[:40]
        assert len(str(refused.value)) < 250, text[:40]


@pytest.mark.parametrize("name", KEYS)
def test_settings(name: str) -> None:
    """A setting takes a value or is reported as a mistake: nothing else is raised, and every line is printable."""
    given = {
        "DATABASE_URL": "postgresql://app@db/app",
        "REDIS_URL": "redis://redis:6379/0",
        "EXTAUTHZ_KEY_PEPPER": "2026:pepper of these tests: 5b1c9e7f2a",
    }
    lines: list[str] = []
    for text in (*NUMBERS, *TIMES):
        try:
            load({**given, name: text}, None)
        except ConfigError as error:
            lines += error.mistakes
    assert [line for line in lines if not line.isprintable() or len(line) > 400] == []
