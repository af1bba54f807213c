"""Rates as operators write them, and the limits of a record."""

import json
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extauthz.core.limits import BURST_MAX, DECIMALS, PERIODS, QUOTA_MAX, Limits, Rate
from tests.refusals import refusal

LIMITS = Limits(Rate(100, 60), 20, 10_000, None)


WRITTEN = {
    "10": Rate(10, 1),
    "10/s": Rate(10, 1),
    "0.5": Rate(1, 2),
    "0.001": Rate(1, 1000),
    "100/min": Rate(100, 60),
    "1/d": Rate(1, 86_400),
    "0.1/d": Rate(1, 864_000),
    "2.5/h": Rate(1, 1440),
    "10.0/min": Rate(10, 60),
    "007.50/s": Rate(15, 2),
    "1000000000": Rate(10**9, 1),
    "86400000000000/d": Rate(86_400 * 10**9, 86_400),
}
PRINTED = {"10": "10/s", "60/min": "60/min", "60.0/min": "60/min", "2.00/min": "2/min", "0.50": "0.5/s", "1/d": "1/d"}
NO_NUMBERS = [
    "",
    "banana",
    "-1",
    "+1",
    "1e3",
    "nan",
    "1.",
    ".5",
    "1/m",
    "1 /s",
    "1/s\n",
    "\u0661",
    "1" * 15,
    "9" * 5000,
]
INVALID = dict.fromkeys(NO_NUMBERS, "must be a number") | {
    "0": "rate is 0",
    "0.000/s": "rate is 0",
    "0/d": "rate is 0",
    "0.0001": "at most 3 decimals per s",
    "0.123/min": "at most 2 decimals per min",
    "0.01/d": "at most 1 decimals per d",
    "1000000000.001": "above 1000000000 a second",
    "60000000001/min": "above 1000000000 a second",
}


def test_rates_as_written() -> None:
    """A number with an optional period, kept exactly; per second where no period is named."""
    assert {text: Rate.parse(text) for text in WRITTEN} == WRITTEN


def test_how_a_rate_is_printed() -> None:
    """In the period of its text, without trailing zeros."""
    assert {text: str(Rate.parse(text)) for text in PRINTED} == PRINTED


def test_invalid_rates() -> None:
    """No rate is rounded or guessed; the error names the fault and stays short."""
    told = {text: refusal(Rate.parse, text) for text in INVALID}
    assert [text for text, said in told.items() if INVALID[text] not in said or len(said) >= 150] == []


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


def test_a_rate_that_was_never_parsed_may_have_no_text() -> None:
    """One in seven seconds has no exact decimal in any period; it is rejected, not rounded."""
    with pytest.raises(ValueError, match="1 in 7 seconds"):
        str(Rate(1, 7))


def test_record_of_limits_is_the_limits() -> None:
    """A record reads back equal; null means without that limit, 0 allows nothing."""
    for limits in (LIMITS, Limits(), Limits(daily_quota=0, monthly_quota=QUOTA_MAX), Limits(Rate(1, 1000), BURST_MAX)):
        assert Limits.from_record(json.loads(json.dumps(limits.to_record()))) == limits


WRONG: list[tuple[dict[str, object], str]] = [
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
]


def test_invalid_limits() -> None:
    """Each wrong value is named by its field."""
    told = [(changed, said, refusal(Limits.from_record, LIMITS.to_record() | changed)) for changed, said in WRONG]
    assert [case for case in told if not case[2].startswith(case[1])] == []


def test_a_missing_limit_is_an_error() -> None:
    """A record without a field of limits is not taken for one without that limit."""
    record = LIMITS.to_record()
    for name in ("rate", "burst", "daily_quota", "monthly_quota"):
        assert refusal(Limits.from_record, {field: record[field] for field in record if field != name}).startswith(name)
    assert refusal(Limits.from_record, {"daily_quota": 1, "monthly_quota": 1}).startswith("rate must be")
