"""Pages of a list, newest first: where one ends is written down in a cursor, so that what is added moves nothing."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from psycopg.rows import DictRow

from extauthz.core.errors import InvalidInput
from extauthz.core.management import Listing

T = TypeVar("T")

LIMIT_MAX = 200


def asked(limit: int, cursor: str | None) -> dict[str, object]:
    """The arguments of a statement for a page of things that have a time and an id. Raises InvalidInput."""
    at, id_ = (None, None) if cursor is None else _decoded(cursor, 2)
    try:
        return {
            "at": None if at is None else datetime.fromisoformat(at),
            "id": None if id_ is None else UUID(id_),
            "at_most": _one_more(limit),
        }
    except ValueError:
        raise _no_cursor() from None


def asked_by_number(limit: int, cursor: str | None) -> dict[str, object]:
    """The same for things that are numbered one after the other. Raises InvalidInput."""
    number = None if cursor is None else _decoded(cursor, 1)[0]
    if number is not None and not (number.isascii() and number.isdecimal() and len(number) <= 18):
        raise _no_cursor()
    return {"id": None if number is None else int(number), "at_most": _one_more(limit)}


def listing(rows: Sequence[DictRow], limit: int, read: Callable[[DictRow], T]) -> Listing[T]:
    """A page of `limit` things from what a statement found, which is one more where there is a next page."""
    shown = rows[:limit]
    if len(rows) <= limit:
        return Listing([read(row) for row in shown], None)
    last = shown[-1]
    place = [last["created_at"].isoformat(), str(last["id"])] if "created_at" in last else [str(last["id"])]
    return Listing([read(row) for row in shown], urlsafe_b64encode(" ".join(place).encode()).decode().rstrip("="))


def _one_more(limit: int) -> int:
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidInput(f"limit is a whole number from 1 to {LIMIT_MAX}")
    return limit + 1


def _decoded(cursor: str, parts: int) -> list[str]:
    try:
        place = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii").split(" ")
    except ValueError:
        raise _no_cursor() from None
    if len(place) != parts:
        raise _no_cursor()
    return place


def _no_cursor() -> InvalidInput:
    return InvalidInput("cursor must be one that a list has returned as `next`")
