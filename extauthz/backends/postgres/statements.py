"""The named statements of our .sql files."""

import re
from collections.abc import Mapping
from importlib.resources import files
from uuid import UUID

from extauthz.core.limit_kinds import LIMIT_COLUMNS
from extauthz.core.management import looks_like_id

_OF_LIMITS = re.compile(r"\{([^{}]*\*[^{}]*)\}")
_NAMED = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_FILES = (
    "lookups.sql",
    "queries.sql",
    "credits.sql",
    "usage.sql",
    "rejections.sql",
    "session.sql",
    "figures.sql",
    "inspection.sql",
)


def _statements() -> Mapping[str, str]:
    named: dict[str, str] = {}
    for file in _FILES:
        parts = _NAMED.split(files("extauthz.backends.postgres").joinpath(file).read_text("utf-8"))
        # The name goes along, so that the server's logs and its list of activities show it.
        texts = zip(parts[1::2], map(_with_limits, parts[2::2]), strict=True)
        named |= {name: f"-- {name}{text.rstrip()}" for name, text in texts}
    return named


def _with_limits(text: str) -> str:
    """A statement with `{k.* AS key_*}` written out for every column of limits."""
    return _OF_LIMITS.sub(lambda each: ", ".join(each[1].replace("*", column) for column in LIMIT_COLUMNS), text)


STATEMENTS = _statements()


def as_id(text: str) -> UUID | None:
    """An id as the tables have it; None for a text that is none, also where Python would make one of it."""
    return UUID(text) if looks_like_id(text) else None
