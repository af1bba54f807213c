"""A request as a person writes it down to ask about it: method, URL and time. A path is never normalised."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from extauthz.core.parsing import parse_since
from extauthz.core.route_rules import METHOD

URL_MAX = 8192  # characters
METHOD_MAX = 64
NOW = "now"

# Scheme, authority, and the rest of a URL (RFC 3986 §3). A backslash in the authority begins the path for some readers.
_URL = re.compile(r"(?i:https?)://([^/?#\\]*)(.*)", re.DOTALL)
_YEARS = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class AskedUrl(NamedTuple):
    """The raw path with its query, and the host with its port; empty where only a path was given."""

    path: str
    host: str


def parse_url(text: str) -> AskedUrl:
    """A path that begins with a slash, or a URL of http or https. ValueError says what is right."""
    if len(text) > URL_MAX:
        raise ValueError(f"must have at most {URL_MAX} characters")
    if text.startswith("/"):
        return AskedUrl(text, "")
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError("must be a path that begins with /, or a URL that begins with http:// or https://")
    host, path = found[1], found[2]
    if not host:
        raise ValueError("must name a host behind http:// or https://")
    if "@" in host:
        raise ValueError("must hold no user name and no password")
    return AskedUrl(path if path.startswith("/") else f"/{path}", host)


def check_method(text: str) -> str:
    """A method as it was written, which may be in another case than those that routes name. ValueError says what is
    right.
    """
    if len(text) > METHOD_MAX or not METHOD.fullmatch(text):
        raise ValueError("must be the name of an HTTP method, as GET")
    return text


def parse_at(text: str, now: datetime) -> datetime | None:
    """A time of ISO 8601 with its zone, or a duration before `now`; None for `now`. ValueError says what is right."""
    if text == NOW:
        return None
    try:
        moment = parse_since(text, now)
    except ValueError as error:
        raise ValueError(f"{error}, nor {NOW}") from None
    if not _YEARS[0] <= moment < _YEARS[1]:
        raise ValueError(f"must be a time from {_YEARS[0].year} to {_YEARS[1].year - 1}")
    return moment
