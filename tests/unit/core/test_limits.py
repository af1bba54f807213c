"""Rates as operators write them, and the limits of a record."""

import json
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extauthz.core.limits import BURST_MAX, DECIMALS, PERIODS, QUOTA_MAX, Limits, Rate

LIMITS = Limits(Rate(100, 60), 20, 10_000, None)


@pytest.mark.parametrize(
    ("text", "tokens", "seconds"),
    [
        ("10", 10, 1),
        ("10/s", 10, 1),
        ("0.5", 1, 2),
        ("0.001", 1, 1000),
        ("100/min", 100, 60),
        ("1/d", 1, 86_400),
        ("0.1/d", 1, 864_000),
        ("2.5/h", 1, 1440),
        ("10.0/min", 10, 60),
        ("007.50/s", 15, 2),
        ("1000000000", 10**9, 1),
        ("86400000000000/d", 86_400 * 10**9, 86_400),
    ],
)
def test_rates_as_written(text: str, tokens: int, seconds: int) -> None:
    """A number with an optional period, kept exactly; per second where no period is named."""
    assert Rate.parse(text) == Rate(tokens, seconds)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must be a number"),
        ("banana", "must be a number"),
        ("-1", "must be a number"),
        ("+1", "must be a number"),
        ("1e3", "must be a number"),
        ("nan", "must be a number"),
        ("1.", "must be a number"),
        (".5", "must be a number"),
        ("1/m", "must be a number"),
        ("1 /s", "must be a number"),
        ("1/s\n", "must be a number"),
        ("\u0661", "must be a number"),
        ("1" * 15, "must be a number"),
        ("9" * 5000, "must be a number"),
        ("0", "rate is 0"),
        ("0.000/s", "rate is 0"),
        ("0/d", "rate is 0"),
        ("0.0001", "at most 3 decimals per s"),
        ("0.123/min", "at most 2 decimals per min"),
        ("0.01/d", "at most 1 decimals per d"),
        ("1000000000.001", "above 1000000000 a second"),
        ("60000000001/min", "above 1000000000 a second"),
    ],
)
def test_invalid_rates(text: str, complaint: str) -> None:
    """No rate is rounded or guessed; the error names the fault and stays short."""
    with pytest.raises(ValueError, match=complaint) as caught:
        Rate.parse(text)
    assert len(str(caught.value)) < 150


@st.composite
def rates(draw: st.DrawFn) -> tuple[str, Fraction]:
    """A rate as text, and what it is exactly, in tokens a second."""
    unit = draw(st.sampled_from(list(PERIODS)))
    places = draw(st.integers(0, DECIMALS[unit]))
    number = draw(st.integers(1, 99) | st.integers(1, 10**9 * PERIODS[unit] * 10**places))
    whole, decimals = divmod(number, 10**places)
    text = f"{whole}.{decimals:0{places}d}" if places else str(whole)
    assume(len(str(whole)) <= 14)
    return f"{text}/{unit}", Fraction(number, 10**places * PERIODS[unit])


@given(rates())
def test_a_rate_is_exact_and_survives_writing(given_rate: tuple[str, Fraction]) -> None:
    """Parsing loses nothing, and a printed rate parses to the same count in the same period."""
    text, exact = given_rate
    rate = Rate.parse(text)
    assert Fraction(rate.tokens, rate.seconds) == exact
    assert rate.seconds <= 864_000
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("10", "10/s"),
        ("60/min", "60/min"),
        ("60.0/min", "60/min"),
        ("2.00/min", "2/min"),
        ("0.50", "0.5/s"),
        ("1/d", "1/d"),
    ],
)
def test_how_a_rate_is_printed(text: str, printed: str) -> None:
    """In the period of its text, without trailing zeros."""
    assert str(Rate.parse(text)) == printed


def test_a_rate_that_was_never_parsed_may_have_no_text() -> None:
    """One in seven seconds has no exact decimal in any period; it is rejected, not rounded."""
    with pytest.raises(ValueError, match="1 in 7 seconds"):
        str(Rate(1, 7))


@pytest.mark.parametrize(
    "limits",
    [LIMITS, Limits(), Limits(daily_quota=0, monthly_quota=QUOTA_MAX), Limits(Rate(1, 1000), BURST_MAX)],
)
def test_record_of_limits_is_the_limits(limits: Limits) -> None:
    """A record reads back equal; null means without that limit, 0 allows nothing."""
    assert Limits.from_record(json.loads(json.dumps(limits.to_record()))) == limits


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"rate": 10}, "rate must be a text"),
        ({"rate": True}, "rate must be a text"),
        ({"rate": "0"}, "rate must be one that can be stored"),
        ({"rate": None}, "rate and burst go together"),
        ({"burst": None}, "rate and burst go together"),
        ({"burst": 0}, "burst must be a whole number from 1"),
        ({"burst": BURST_MAX + 1}, "burst must be a whole number"),
        ({"burst": True}, "burst must be a whole number"),
        ({"burst": 2.0}, "burst must be a whole number"),
        ({"burst": "20"}, "burst must be a whole number"),
        ({"daily_quota": -1}, "daily_quota must be a whole number from 0"),
        ({"daily_quota": QUOTA_MAX + 1}, "daily_quota must be a whole number"),
        ({"monthly_quota": float("nan")}, "monthly_quota must be a whole number"),
        ({"monthly_quota": []}, "monthly_quota must be a whole number"),
    ],
)
def test_invalid_limits(changed: dict[str, object], complaint: str) -> None:
    """Each wrong value is named by its field."""
    with pytest.raises(ValueError, match=complaint):
        Limits.from_record(LIMITS.to_record() | changed)


@pytest.mark.parametrize("name", ["rate", "burst", "daily_quota", "monthly_quota"])
def test_a_missing_limit_is_an_error(name: str) -> None:
    """A record without a field of limits is not taken for one without that limit."""
    record = LIMITS.to_record()
    del record[name]
    with pytest.raises(ValueError, match=name):
        Limits.from_record(record)
