"""A CSV file of keys that another system issued, row after row. No mistake repeats a cell: it could be a key.

A row is one line, so that a forgotten quote spoils its own row alone, line numbers are those of an editor, and a file
of any length takes the memory of a line. What a row leaves empty is as the options of the command say.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import BinaryIO

from extauthz.cli import parse
from extauthz.core.errors import InvalidInput
from extauthz.core.permissions import Permissions
from extauthz.core.records import KeyTerms, parse_metadata
from extauthz.core.shown import shown
from extauthz.core.typed import printable
from extauthz.service.terms import LAST_YEAR

COLUMNS = ("key", "name", "permissions", "expires_at", "metadata")
LINE_MAX = 1 << 20  # bytes; the largest metadata are a third of it

_TITLE = re.compile(r"[A-Za-z _-]{1,40}")  # with no digit: what a file without a header begins with is a key


@dataclass(frozen=True, slots=True)
class Row:
    """A key of the file and what its owner says of it."""

    line: int
    key: str = field(repr=False)
    terms: KeyTerms = field(repr=False)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no key, and why."""

    line: int
    error: str


class KeyRows:
    """The rows of a stream. `done` and `line` say how far they were read, in bytes and in lines."""

    def __init__(self, stream: BinaryIO, terms: KeyTerms, *, permissions_given: bool) -> None:
        """Reads the header, the first line. Raises InvalidInput where it is none.

        `terms`: what a row says nothing of; `permissions_given`: whether a row may leave its permissions empty.
        """
        self.done = self.line = 0
        self._stream = stream
        self._terms = terms
        self._permissions_given = permissions_given
        try:
            self._columns = _header(self._cells(self._next_line().removeprefix(codecs.BOM_UTF8)))
        except ValueError as error:
            raise InvalidInput(f"line 1: {error}") from None

    def __iter__(self) -> Iterator[Row | BadRow]:
        while line := self._next_line():
            try:
                cells = self._cells(line)
                if any(cells):
                    yield self._row(cells)
            except ValueError as error:
                yield BadRow(self.line, str(error))

    def _next_line(self) -> bytes:
        """The next line; of one that is too long, so much that it can be seen."""
        line = part = self._stream.readline(LINE_MAX + 1)
        self.line += bool(line)
        self.done += len(line)
        while len(part) > LINE_MAX and not part.endswith(b"\n"):
            part = self._stream.readline(LINE_MAX + 1)
            self.done += len(part)
        return line

    def _cells(self, line: bytes) -> list[str]:
        if len(line) > LINE_MAX:
            raise ValueError(f"longer than {LINE_MAX} bytes")
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise ValueError("not UTF-8") from None
        try:
            return [cell.strip() for cell in next(csv.reader([text], strict=True), [])]
        except csv.Error:
            raise ValueError("no CSV: a quote is missing or one too many, or a cell is too long") from None

    def _row(self, cells: list[str]) -> Row:
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
        return Row(self.line, row["key"], terms)


def _header(cells: list[str]) -> list[str]:
    columns = [cell.lower() for cell in cells]
    may_be = f"columns, separated by commas, are {', '.join(COLUMNS)}"
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
    if not printable(cell):
        raise ValueError("the name holds a control character or a line break")
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
            f"expires_at is no time with a zone, as 2030-01-31T12:00:00Z, up to the year {LAST_YEAR}"
        ) from None


def _metadata(cell: str) -> Mapping[str, str]:
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        raise ValueError('metadata is no JSON, as {"team": "billing"}') from None
    return parse_metadata(value)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
