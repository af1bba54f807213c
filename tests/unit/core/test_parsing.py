"""Names: texts that look the same are equal, and invisible characters are rejected."""

import unicodedata
from datetime import UTC, date, datetime

from extauthz.core.parsing import normal_name, parse_day, parse_moment, parse_month, unfit, visible
from tests.refusals import refusal

STORED = {
    "acme": "acme",
    "cafe\u0301": "caf\u00e9",
    "A\u030angstro\u0308m": "\u00c5ngstr\u00f6m",
    "\u212b": "\u00c5",
    "\u1112\u1161\u11ab": "\ud55c",
    "a\u00a0b\u3000c\u2009d\u202fe": "a b c d e",
    "\u682a\u5f0f\u4f1a\u793e": "\u682a\u5f0f\u4f1a\u793e",
    "\U0001f98a": "\U0001f98a",
}


def test_one_form() -> None:
    """Composed and decomposed characters and all blanks have one form, which stays as it is."""
    for name, stored in STORED.items():
        assert normal_name(name) == normal_name(stored) == stored
        assert unfit(stored) == ""
        assert visible(stored) == stored


def test_characters_that_names_must_not_contain() -> None:
    """Every control, line, format and private character that cannot be seen, by the tables of Python's Unicode."""
    seen = {0x0600, 0x0601, 0x0602, 0x0603, 0x0604, 0x0605, 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD}
    seen |= {*range(0x13430, 0x13440)}  # signs that are drawn though their category is that of format characters
    ends_of_private_planes = (0xF0000, 0xFFFFD, 0x100000, 0x10FFFD)
    # Planes 2 to 13 have letters alone.
    for code in (*range(0x20000), *range(0xE0000, 0xE1000), *ends_of_private_planes):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Co", "Zl", "Zp") and code not in seen:
            assert unfit(chr(code)) == f"U+{code:04X}"
    for filler in "\u034f\u115f\u1160\u17b4\u180b\u2800\u3164\ufe0f\uffa0\U000e0100\ufffe":
        assert unfit(f"a{filler}b")


def test_what_cannot_be_seen_is_escaped() -> None:
    """Line breaks, invisible characters and blanks that pass for a space; the rest stays."""
    shown = {"a": "a", "a\nb": "a\\nb", "é\u200bé": "é\\u200bé", "a\u3000": "a\\u3000", "\x1b": "\\x1b", "ü": "ü"}
    assert {text: visible(text) for text in shown} == shown


def test_moments() -> None:
    """With a zone, in either case; a date that does not exist is named apart from a wrong form."""
    assert parse_moment("2030-01-31t12:00:00z") == datetime(2030, 1, 31, 12, tzinfo=UTC)
    assert refusal(parse_moment, "2030-02-30T12:00:00Z") == "must be a valid date and time"
    form = "must be a time in ISO 8601 with a zone, as 2030-01-31T12:00:00Z"
    assert {refusal(parse_moment, text) for text in ("", "2030-01-31", "2030-01-31T12:00:00")} == {form}


def test_days_and_months() -> None:
    """Whole, and of the calendar."""
    assert (parse_day("2028-02-29"), parse_month("2028-02")) == (date(2028, 2, 29), date(2028, 2, 1))
    assert {refusal(parse_day, text) for text in ("", "2028-2-29", "20280229")} == {"must be a date like 2030-01-31"}
    assert refusal(parse_day, "2027-02-29") == "must be a valid date"
    assert {refusal(parse_month, text) for text in ("", "2028-2", "2028-02-29")} == {"must be a month like 2030-01"}
    assert refusal(parse_month, "2028-13") == "must be a year from 0001 and a month from 01 to 12"
