"""Method, URL and time as an operator writes them."""

from datetime import UTC, datetime

import pytest

from extauthz.core.explain_input import URL_MAX, check_method, parse_at, parse_url
from tests.refusals import refusal

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


URLS = {
    "/": ("/", ""),
    "//a/../b?c#d": ("//a/../b?c#d", ""),
    "https://api.example.com": ("/", "api.example.com"),
    "HTTP://[::1]:8080/a%2Fb?c=/d": ("/a%2Fb?c=/d", "[::1]:8080"),
    "http://h?x=1": ("/?x=1", "h"),
    "http://h\\@evil/x": ("/\\@evil/x", "h"),
    "/" + "a" * (URL_MAX - 1): ("/" + "a" * (URL_MAX - 1), ""),
}
INVALID = ("", "a", "*", "ftp://x/", "https:///x", "http://u:p@h/", "/" + "a" * URL_MAX)


def test_urls() -> None:
    """A path stays unchanged; of a whole URL the host is taken, and nothing is normalised."""
    assert {text: parse_url(text) for text in URLS} == URLS


def test_invalid_urls() -> None:
    """It is rejected, with an error that repeats nothing of it."""
    assert refusal(parse_url, "a") == "must be a path that begins with /, or a URL that begins with http:// or https://"
    for text in INVALID:
        assert refusal(parse_url, text).startswith("must ")
        assert "u:p" not in refusal(parse_url, text)


METHODS = ["GET", "get", "M-SEARCH", "A" * 64]


def test_methods() -> None:
    """A method keeps its case; one that no request line can hold is rejected."""
    assert [check_method(method) for method in METHODS] == METHODS
    for wrong in ("", "G ET", "GET\n", "GÉT", "A" * 65):
        with pytest.raises(ValueError, match=r"^must be the name of an HTTP method"):
            check_method(wrong)


def test_times() -> None:
    """`now`, a time with its zone, or a duration ago; not a time beyond the calendar."""
    assert parse_at("now", NOW) is None
    assert parse_at("2030-01-31T13:00:00+01:00", NOW) == NOW
    assert parse_at("24h", NOW) == datetime(2030, 1, 30, 12, tzinfo=UTC)
    for wrong in ("", "yesterday", "2030-01-31T12:00:00", "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "9999999d"):
        with pytest.raises(ValueError, match=r"^(must|is) "):
            parse_at(wrong, NOW)
    for bound in (datetime(1971, 1, 1, tzinfo=UTC), datetime(8999, 12, 31, tzinfo=UTC)):
        assert parse_at(bound.isoformat(), NOW) == bound
    assert refusal(parse_at, "9000-01-01T00:00:00Z", NOW) == "must be a time from 1971 to 8999"
