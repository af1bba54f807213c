"""CSV (RFC 4180) of any origin as records: a record is one line, or several where line breaks stand in quotes.

Lines end with LF, CR LF or CR. Where a quote is left open, the line in which it was opened is a bad record by itself
and reading goes on with the next line, so that a missing quote spoils its own row alone. What is well formed is never
taken apart: a cell with line breaks cannot smuggle in a row. A stream of any length takes the memory of a record.
"""

import codecs
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from extauthz.core.errors import InvalidInput

RECORD_MAX = 1 << 20  # bytes; the largest metadata are a third of it
LINES_MAX = 1000  # lines of one record
SKIPPED_MAX = 1 << 26  # bytes of one line; a longer one means that the file is not CSV
SEPARATORS = (",", ";", "\t")

_CHUNK = 1 << 16
_LINE_END = re.compile(rb"\r\n|\n|\r")
_SEPARATED_BY = re.compile(r'"?sep=([,;\t])"?', re.IGNORECASE)  # a first line that Excel reads and writes
_FORMULA = re.compile(r'="((?:[^"]|"")*)"')  # how Excel is told that digits are a text


class Readable(Protocol):
    """A binary stream that gives what is there."""

    def read1(self, size: int, /) -> bytes:
        """At least one byte and at most `size`; none at the end."""
        ...


class Malformed(ValueError):
    """Why a record cannot be read, without a word of it."""


@dataclass(frozen=True, slots=True)
class Record:
    """The cells of a record that begins in `line`, or the mistake in that line."""

    line: int
    cells: list[str] = field(repr=False)
    mistake: str = ""


class Lines:
    """The lines of a stream. `done` and `line` say how far it was read, in bytes and in lines."""

    def __init__(self, stream: Readable) -> None:
        self.done = self.line = 0
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._ended = False

    def next(self) -> bytes:
        """The next line with its end; of one that is too long, so much that it can be seen; nothing at the end."""
        while (end := self._end()) is None:
            if len(self._buffer) - self._at > RECORD_MAX:
                return self._too_long()
            self._fill()
        line = self._buffer[self._at : end]
        self._at = end
        self._count(line)
        return line

    def _end(self) -> int | None:
        """Where the line ends that begins here, None where that is not known yet."""
        match = _LINE_END.search(self._buffer, self._at)
        if match is None:
            return len(self._buffer) if self._ended else None
        # A CR at the end of what is there may be half of an end.
        whole = match.end() < len(self._buffer) or match[0] != b"\r" or self._ended
        return match.end() if whole else None

    def _fill(self) -> None:
        try:
            more = self._stream.read1(_CHUNK)
        except OSError as error:
            raise InvalidInput(f"the rows cannot be read: {error.strerror}") from None
        self._ended = not more
        self._buffer = self._buffer[self._at :] + more
        self._at = 0

    def _too_long(self) -> bytes:
        line = self._buffer[self._at : self._at + RECORD_MAX + 1]
        self._count(line)
        self._at += len(line)
        skipped = 0
        while (end := self._end()) is None and skipped < SKIPPED_MAX:
            skipped += len(self._buffer) - self._at - 1
            self._at = len(self._buffer) - 1  # which could be a CR
            self._fill()
        self._ended |= end is None
        self._at = len(self._buffer) if end is None else end
        self.done += skipped
        return line

    def _count(self, line: bytes) -> None:
        self.line += bool(line)
        self.done += len(line)


class Records:
    """The records of a stream, blank ones left out. The first one is the header."""

    def __init__(self, stream: Readable) -> None:
        self.lines = Lines(stream)
        self._ahead: deque[tuple[int, bytes]] = deque()  # lines behind a quote that was left open
        first = self._next_line()
        if first[1].startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise Malformed("UTF-16; save it as CSV in UTF-8")
        text = first[1].removeprefix(codecs.BOM_UTF8)
        named = _SEPARATED_BY.fullmatch(text[:16].decode(errors="replace").rstrip("\r\n"))
        self._separator = named[1] if named else max(SEPARATORS, key=lambda each: text.count(each.encode()))
        if named is None:
            self._ahead.append((first[0], text))
        plain = rf'[^"{self._separator}\r\n][^{self._separator}\r\n]*+'
        blanks = "[ ]*+" if self._separator == "\t" else r"[ \t]*+"
        quoted = rf'"([^"]*+(?:""[^"]*+)*+)("?){blanks}'
        self._cell = re.compile(rf"{blanks}(?:{quoted}|({plain})|)({self._separator}|[\r\n]*\Z)?")

    def __iter__(self) -> Iterator[Record]:
        while (line := self._next_line())[1]:
            record = self._record(*line)
            if record.mistake or any(record.cells):
                yield record

    def _record(self, number: int, first: bytes) -> Record:
        lines = [(number, first)]
        try:
            while (cells := self._split(b"".join(line for _, line in lines))) is None:
                self._close_quote(lines)
        except Malformed as error:
            self._ahead.extendleft(reversed(lines[1:]))
            return Record(number, [], str(error))
        return Record(number, cells)

    def _close_quote(self, lines: list[tuple[int, bytes]]) -> None:
        """Adds lines up to the next with a quote, without which none is closed."""
        size = sum(len(line) for _, line in lines)
        while (more := self._next_line())[1]:
            lines.append(more)
            size += len(more[1])
            if b'"' in more[1]:
                return
            if size > RECORD_MAX or len(lines) > LINES_MAX:
                break
        raise Malformed("no CSV: a quote is missing or one too many")

    def _split(self, line: bytes) -> list[str] | None:
        """The cells of a record, None where a quote is open at its end. Raises Malformed."""
        if len(line) > RECORD_MAX:
            raise Malformed(f"longer than {RECORD_MAX} bytes")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise Malformed("not UTF-8") from None
        cells, place = [], 0
        while match := self._cell.match(text, place):
            quoted, closed, plain, end = match.groups()
            if quoted is not None and not closed:
                return None
            if end is None:
                raise Malformed("no CSV: a quote is missing or one too many")
            cell = (plain or "").strip() if quoted is None else quoted.replace('""', '"').strip()
            formula = _FORMULA.fullmatch(cell)
            cells.append(formula[1].replace('""', '"') if formula else cell)
            if end != self._separator:
                break
            place = match.end()
        return cells

    def _next_line(self) -> tuple[int, bytes]:
        if self._ahead:
            return self._ahead.popleft()
        line = self.lines.next()
        return self.lines.line, line
