from datetime import UTC, date, datetime, timedelta

import pytest

from extauthz.cli import parse
from extauthz.core.errors import InvalidInput
from extauthz.core.limits import Limits, Rate
from extauthz.core.permissions import FULL_ACCESS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOT_GIVEN = dict.fromkeys(("rate", "burst", "daily_quota", "monthly_quota"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("30d", 30 * 86_400), ("0090s", 90)]
)
def test_duration(text: str, seconds: int) -> None:
    """A key created with a duration ends that long from now."""
    assert parse.expiry(text, None, NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "s", "1w", "1.5h", "-1d", "+1d", " 1h", "1h ", "1h30m", "1H", "१d", "1d\n"])
def test_invalid_duration(text: str) -> None:
    """An invalid duration is rejected with valid examples."""
    with pytest.raises(InvalidInput, match=r"--expires-in must be a duration such as 90s, 15m, 1h or 30d \(got .*\)"):
        parse.expiry(text, None, NOW)


@pytest.mark.parametrize("text", ["0s", "00d"])
def test_zero_duration(text: str) -> None:
    """A key that would end at once is rejected."""
    with pytest.raises(InvalidInput, match="above 0"):
        parse.expiry(text, None, NOW)


@pytest.mark.parametrize("text", ["3000000d", "99999999999d", "999999999999999999s", "999999999999999999d"])
def test_endless_duration(text: str) -> None:
    """A duration beyond every calendar is a usage error, not an overflow."""
    with pytest.raises(InvalidInput, match="must be at most in the year 9998"):
        parse.expiry(text, None, NOW)


def test_moment() -> None:
    """A time is accepted in any time zone, and means that moment."""
    expected = datetime(2030, 1, 31, 12, tzinfo=UTC)
    for text in ("2030-01-31T12:00:00Z", "2030-01-31T14:00:00+02:00", "2030-01-31t12:00:00.000z"):
        assert parse.expiry(None, text, NOW) == expected
    assert parse.expiry(None, "2030-01-31T12:00:00-02:30", NOW) == expected + timedelta(hours=2.5)


def test_moment_without_zone() -> None:
    """A time without a zone is rejected with the same time in UTC as an example."""
    with pytest.raises(InvalidInput, match=r"must have a time zone .*; in UTC: 2030-01-31T00:00:00Z"):
        parse.expiry(None, "2030-01-31T00:00:00", NOW)


@pytest.mark.parametrize("text", ["2030-02-30T00:00:00Z", "2030-01-31T25:00:00Z", "2030-06-30T23:59:60Z"])
def test_impossible_moment(text: str) -> None:
    """A text in the form of a time that does not exist is rejected."""
    with pytest.raises(InvalidInput, match="--expires-at must be a valid date and time"):
        parse.expiry(None, text, NOW)


@pytest.mark.parametrize("name", ["a\nb", "\x00", "\x7f", "\x85", "a\u2028b", "\u2029"])
def test_invalid_name(name: str) -> None:
    """A name that would break a line is rejected; any other stays as it is."""
    with pytest.raises(InvalidInput, match="a name must hold no control and no invisible character"):
        parse.name(name)
    assert parse.name("ß 🦊 '") == "ß 🦊 '"
    assert parse.name(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2030-01-31",
        "2030-01-31T12:00Z",
        "2030-01-31 12:00:00Z",
        "20300131T120000Z",
        "2030-W05-4T12:00:00Z",
        "10000-01-01T00:00:00Z",
    ],
)
def test_invalid_moment(text: str) -> None:
    """An invalid time is rejected with a valid example."""
    with pytest.raises(InvalidInput, match="must be a time in ISO 8601 with a zone, as 2030-01-31T12:00:00Z"):
        parse.expiry(None, text, NOW)


def test_last_moment() -> None:
    """Times end with the year 9998 in UTC, so that no time zone moves one beyond Python's last year."""
    assert parse.expiry(None, "9998-12-31T11:59:59-12:00", NOW) == datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC)
    for text in ("9998-12-31T12:00:00-12:00", "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59+12:00"):
        with pytest.raises(InvalidInput, match="must be at most in the year"):
            parse.expiry(None, text, NOW)


def test_expiry_once() -> None:
    """Without an option a key never ends; two of them contradict each other, even when they agree."""
    assert parse.expiry(None, None, NOW) is None
    with pytest.raises(InvalidInput, match="exclude each other"):
        parse.expiry("1h", "2026-03-01T13:00:00Z", NOW)


def test_new_expiry() -> None:
    """The expiry changes only where an option says so; `none` removes it."""
    assert parse.new_expiry(None, None, NOW) == {}
    assert parse.new_expiry(None, "none", NOW) == {"expires_at": None}
    assert parse.new_expiry("1h", None, NOW) == {"expires_at": NOW + timedelta(hours=1)}
    with pytest.raises(InvalidInput, match="exclude each other"):
        parse.new_expiry("1h", "none", NOW)


def test_grace() -> None:
    """A grace period may be zero, and is a year at most."""
    assert parse.grace("0s") == timedelta()
    assert parse.grace("365d") == timedelta(days=365)
    for text in ("366d", "999999999999999999d"):
        with pytest.raises(InvalidInput, match="--grace must be at most 365d"):
            parse.grace(text)
    with pytest.raises(InvalidInput, match=r"--grace must be a duration such as 90s, 15m, 1h or 30d \(got '1 h'\)"):
        parse.grace("1 h")


def test_until() -> None:
    """The end of own limits is a time with its zone, a duration from now, or `none`."""
    now = datetime(2029, 1, 31, tzinfo=UTC)
    assert parse.until("none", now) is None
    assert parse.until("2030-01-31T12:00:00Z", now) == datetime(2030, 1, 31, 12, tzinfo=UTC)
    assert parse.until("30d", now) == datetime(2029, 3, 2, tzinfo=UTC)
    for text, said in (
        ("soon", "must be a time in ISO 8601"),
        ("2030-01-31T12:00:00", "must have a time zone"),
        ("0d", "must be above 0"),
        ("9999999d", "must be at most in the year"),
    ):
        with pytest.raises(InvalidInput, match=f"^--until .*{said}"):
            parse.until(text, now)


def test_anchor() -> None:
    """A month begins on one of the days that a month can have."""
    assert [parse.anchor(text) for text in ("1", "31")] == [1, 31]
    for text in ("0", "32", "-1", "1.0", "", "none", "9" * 30, "٣"):
        with pytest.raises(InvalidInput, match=r"^--anchor must be a day from 1 to 31 \(got '.*'\)$"):
            parse.anchor(text)


def test_day() -> None:
    """A day is a whole date; a date that never existed has an error of its own."""
    assert parse.day(None) is None
    assert parse.day("2028-02-29") == date(2028, 2, 29)
    for text in (
        "",
        "today",
        "20260101",
        "2026-W01-1",
        "2026-1-1",
        "2026-01-01T00:00:00Z",
        "2026-01-01\n",
        "२०२६-०१-०१",
    ):
        with pytest.raises(InvalidInput, match="must be a date like 2030-01-31 "):
            parse.day(text)
    for text in ("2026-02-29", "2026-13-01", "0000-01-01"):
        with pytest.raises(InvalidInput, match=r"^--day must be a valid date"):
            parse.day(text)


def test_month() -> None:
    """A month is a year and one of its twelve months, and stands for its first date."""
    assert parse.month(None) is None
    assert parse.month("2028-02") == date(2028, 2, 1)
    for text in ("", "2026", "2026-1", "202601", "2026-01-01", "2026-01\n", "February", "२०२६-०१"):
        with pytest.raises(InvalidInput, match=r"^--month must be a month like 2030-01 \(got '"):
            parse.month(text)
    for text in ("2026-00", "2026-13", "0000-01"):
        with pytest.raises(InvalidInput, match=rf"from 01 to 12 \(got '{text}'\)$"):
            parse.month(text)


def test_metadata() -> None:
    """Metadata are pairs; a value may be empty and may contain an equals sign; `none` alone is not a pair."""
    assert parse.metadata([]) == parse.metadata(["none"]) == {}
    assert parse.metadata(["team=billing", "query=a=b", "empty=", "none=none"]) == {
        "team": "billing",
        "query": "a=b",
        "empty": "",
        "none": "none",
    }


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["team"], "--metadata must be NAME=VALUE, such as team=billing, or none alone"),
        (["=billing"], "--metadata must be NAME=VALUE"),
        (["none", "a=b"], "--metadata must be NAME=VALUE"),
        (["a=b", "a=c"], "--metadata must name each entry once"),
    ],
)
def test_invalid_metadata_options(texts: list[str], said: str) -> None:
    """Malformed and contradictory pairs are rejected."""
    with pytest.raises(InvalidInput) as refused:
        parse.metadata(texts)
    assert str(refused.value).startswith(said)


def test_permissions_merge() -> None:
    """Permissions add up by resource; without any, a key has full access."""
    assert parse.permissions(["customer:read", "*:read", "customer:write", "customer:read"]) == {
        "customer": {"read", "write"},
        "*": {"read"},
    }
    assert parse.permissions([]) == FULL_ACCESS == {"*": {"read", "write"}}


@pytest.mark.parametrize(
    "text", ["", "customer", ":read", "a b:read", "**:read", "kundé:read", "x" * 65 + ":read", "a:b:read"]
)
def test_invalid_resource(text: str) -> None:
    """A permission with an invalid resource is rejected, shortened, with an example."""
    with pytest.raises(InvalidInput, match=r"--permission must be RESOURCE:MODE, such as customer:read .{0,70}"):
        parse.permissions(["api:read", text])


@pytest.mark.parametrize("text", ["customer:", "customer:delete", "customer:READ", "customer:read,write"])
def test_invalid_mode(text: str) -> None:
    """A permission with an unknown mode is rejected and named."""
    with pytest.raises(InvalidInput, match="the mode of --permission must be read or write"):
        parse.permissions([text])


def test_limits() -> None:
    """Only limits that were given are changed; `none` clears one, 0 of a quota is not `none`."""
    assert parse.limits(NOT_GIVEN) == {}
    assert parse.limits({**NOT_GIVEN, "rate": "100/min", "burst": "1000000000"}) == {"rate": "100/min", "burst": 10**9}
    assert parse.limits(
        {**NOT_GIVEN, "rate": "none", "burst": "none", "daily_quota": "0", "monthly_quota": "none"}
    ) == {
        "rate": None,
        "burst": None,
        "daily_quota": 0,
        "monthly_quota": None,
    }


def test_own_limits() -> None:
    """A new record has the limits that were given, and no others; a rate needs a burst."""
    assert parse.own_limits(NOT_GIVEN) == Limits()
    given = parse.own_limits({**NOT_GIVEN, "rate": "5", "burst": "7", "daily_quota": "none"})
    assert given == Limits(rate=Rate(5, 1), burst=7)
    with pytest.raises(InvalidInput, match="rate and burst go together"):
        parse.own_limits({**NOT_GIVEN, "rate": "5"})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rate", "5/week", "--rate must be a number"),
        ("rate", "0", "--rate is 0: a rate is above 0"),
        ("rate", "-1", "--rate must be a number"),
        ("burst", "0", "--burst must be a whole number from 1 to 1000000000, or none (got '0')"),
        ("burst", "1e3", "--burst must be a whole number"),
        ("daily_quota", "-1", "--daily-quota must be a whole number from 0 to 1000000000000, or none (got '-1')"),
        ("daily_quota", "1_000", "--daily-quota must be a whole number"),
        ("monthly_quota", "1000000000001", "--monthly-quota must be a whole number"),
        ("monthly_quota", "9" * 5000, "--monthly-quota must be"),
        ("monthly_quota", "None", "--monthly-quota must be a whole number"),
    ],
)
def test_invalid_limit(name: str, text: str, said: str) -> None:
    """An invalid limit is rejected by the name of its option, whatever its length."""
    with pytest.raises(InvalidInput) as refused:
        parse.limits({name: text})
    assert str(refused.value).startswith(said)
    assert len(str(refused.value)) < 150
