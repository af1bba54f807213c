"""A CSV file of keys that another system issued, row after row. No mistake repeats a cell: it could be a key.

What a row leaves empty is as the options of the command say.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from extauthz.cli import parse
from extauthz.cli.csv_records import Malformed, Readable, Record, Records
from extauthz.core.errors import InvalidInput
from extauthz.core.management import KeyTerms, parse_metadata
from extauthz.core.masking import shown
from extauthz.core.parsing import unfit
from extauthz.core.permissions import Permissions
from extauthz.service.manage.validation import LAST_YEAR

COLUMNS = ("key", "name", "permissions", "expires_at", "metadata")

_TITLE = re.compile(r"[A-Za-z _-]{1,40}")  # with no digit: what a file without a header begins with is a key


@dataclass(frozen=True, slots=True)
class Row:
    """A key of the file and what its owner says of it."""

    line: int
    key: str = field(repr=False)
    terms: KeyTerms = field(repr=False)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line without a valid key, and the reason."""

    line: int
    error: str


class KeyRows:
    """The rows of a stream. `done` and `line` say how far they were read, in bytes and in lines."""

    def __init__(self, stream: Readable, terms: KeyTerms, *, permissions_given: bool) -> None:
        """Reads the header, the first record. Raises InvalidInput where it is none.

        `terms`: what a row says nothing of; `permissions_given`: whether a row may leave its permissions empty.
        """
        self._terms = terms
        self._permissions_given = permissions_given
        try:
            self._records = Records(stream)
            self._unread = iter(self._records)
            header = next(self._unread, Record(1, []))
        except Malformed as error:
            raise InvalidInput(f"line 1: {error}") from None
        self._columns = _header(header)
        self._width = len(header.cells)  # with those that have no title

    @property
    def done(self) -> int:
        """How many bytes were read."""
        return self._records.lines.done

    @property
    def line(self) -> int:
        """How many lines were read."""
        return self._records.lines.line

    def __iter__(self) -> Iterator[Row | BadRow]:
        for record in self._unread:
            try:
                if record.mistake:
                    raise ValueError(record.mistake)
                yield self._row(record.line, record.cells)
            except ValueError as error:
                yield BadRow(record.line, str(error))

    def _row(self, line: int, cells: list[str]) -> Row:
        if len(cells) == self._width and not any(cells[len(self._columns) :]):
            cells = cells[: len(self._columns)]  # spreadsheets write separators for columns that are gone
        if len(cells) != len(self._columns):
            raise ValueError(f"{_counted(len(cells), 'cell')}, but the header has {len(self._columns)}")
        row = dict(zip(self._columns, cells, strict=True))
        if not row["key"]:
            raise ValueError("the key is empty")
        terms = self._terms
        if name := row.get("name"):
            terms = replace(terms, name=_name(name))
        if permissions := row.get("permissions"):
            terms = replace(terms, permissions=_permissions(permissions))
        elif permissions is not None and not self._permissions_given:
            raise ValueError("permissions are empty; --permission says what such a row gets")
        if expires_at := row.get("expires_at"):
            terms = replace(terms, expires_at=_moment(expires_at))
        if metadata := row.get("metadata"):
            terms = replace(terms, metadata=_metadata(metadata))
        return Row(line, row["key"], terms)


def _header(record: Record) -> list[str]:
    try:
        return _columns(record)
    except ValueError as error:
        raise InvalidInput(f"line {record.line}: {error}") from None


def _columns(record: Record) -> list[str]:
    if record.mistake:
        raise ValueError(record.mistake)
    columns = [cell.lower() for cell in record.cells]
    while columns and not columns[-1]:
        columns.pop()
    may_be = f"columns, separated by commas, semicolons or tabs, are {', '.join(COLUMNS)}"
    if "key" not in columns:
        raise ValueError(f"no header with the column key; {may_be}")
    unknown = [
        shown(title) if _TITLE.fullmatch(title) else f"number {number}"
        for number, title in enumerate(columns, 1)
        if title not in COLUMNS
    ]
    if unknown:
        raise ValueError(f"unknown column {', '.join(unknown)}; {may_be}")
    if len(columns) != len(set(columns)):
        raise ValueError("a column is there twice")
    return columns


def _name(cell: str) -> str:
    if character := unfit(cell):
        raise ValueError(f"the name must hold no control and no invisible character (got {character})")
    return cell


def _permissions(cell: str) -> Permissions:
    try:
        return parse.permissions(cell.split())
    except InvalidInput:
        raise ValueError("permissions are not RESOURCE:MODE separated by blanks, as customer:read *:write") from None


def _moment(cell: str) -> datetime | None:
    if cell == parse.NONE:
        return None
    try:
        return parse.expiry(None, cell, datetime.now(UTC))
    except InvalidInput:
        raise ValueError(
            f"expires_at must be a time with a zone, such as 2030-01-31T12:00:00Z, up to the year {LAST_YEAR}"
        ) from None


def _metadata(cell: str) -> Mapping[str, str]:
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        raise ValueError('metadata must be JSON, such as {"team": "billing"}') from None
    return parse_metadata(value)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
