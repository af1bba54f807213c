import io
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from extauthz.cli.csv_keys import BadRow, KeyRows, Row
from extauthz.cli.csv_records import RECORD_MAX
from extauthz.core.errors import InvalidInput
from extauthz.core.management import KeyTerms

KEY = "AKIA0123456789abcdef"


def rows(content: bytes, *, permissions_given: bool = False, terms: KeyTerms | None = None) -> list[Row | BadRow]:
    return list(KeyRows(io.BytesIO(content), terms or KeyTerms(), permissions_given=permissions_given))


def test_every_column() -> None:
    """A row gives every field of a key, in any order of columns."""
    (row,) = rows(
        b"Name, metadata ,expires_at,KEY,permissions\r\n"
        b'"Smith, John","{""team"": ""b\xc3\xa9""}",2030-01-31T12:00:00Z, %b ,customer:read  invoice:write\r\n'
        % KEY.encode()
    )
    assert row == Row(
        2,
        KEY,
        KeyTerms(
            name="Smith, John",
            permissions={"customer": frozenset({"read"}), "invoice": frozenset({"write"})},
            expires_at=datetime(2030, 1, 31, 12, tzinfo=UTC),
            metadata={"team": "bé"},
        ),
    )


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_shapes_of_files(bom: bytes, end: bytes) -> None:
    """A byte order mark, Windows line ends, blank lines and a last line without an end do not matter."""
    lines = [b"key,name", b"a,1", b"", b",", b'"b",2']
    assert [(row.line, getattr(row, "key", None)) for row in rows(bom + end.join(lines))] == [(2, "a"), (5, "b")]


def test_empty_cells_and_absent_columns() -> None:
    """Empty cells and absent columns take the value of the options; `none` is a key that never ends."""
    ends = datetime(2031, 1, 1, tzinfo=UTC)
    terms = KeyTerms(name="imported", permissions={"a": frozenset({"read"})}, expires_at=ends, metadata={"a": "b"})
    empty, full = rows(b"key,permissions,expires_at\nk1,,\nk2,*:read,none\n", permissions_given=True, terms=terms)
    assert isinstance(empty, Row)
    assert isinstance(full, Row)
    assert empty.terms == terms
    assert (full.terms.permissions, full.terms.expires_at) == ({"*": frozenset({"read"})}, None)
    assert (full.terms.name, full.terms.metadata) == (terms.name, terms.metadata)


def test_empty_permissions_do_not_grant_full_access() -> None:
    """Where the file has a column for permissions, an empty cell grants nothing."""
    (bad,) = rows(b"key,permissions\n%b,\n" % KEY.encode())
    assert bad == BadRow(2, "permissions are empty; --permission says what such a row gets")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"KEY", "1 cell, but the header has 5"),
        (b"Smith, John,KEY,,,", "6 cells, but the header has 5"),
        (b'"KEY,,*:read,,', "no CSV: a quote is missing or one too many"),
        (b'"KEY"x,,*:read,,', "no CSV: a quote is missing or one too many"),
        (b'KEY,,*:read,,"{""a"": ""b"",', "no CSV: a quote is missing or one too many"),
        (b"KEY,\xff,*:read,,", "not UTF-8"),
        (b",KEY,*:read,,", "the key is empty"),
        (b"x,,KEY,,", "permissions are not RESOURCE:MODE separated by blanks"),
        (b"x,,KEY:write:KEY,,", "permissions are not RESOURCE:MODE separated by blanks"),
        (b"x,,*:read,KEY,", "expires_at must be a time with a zone"),
        (b"x,,*:read,2030-01-31T12:00:00,", "expires_at must be a time with a zone"),
        (b"x,,*:read,9999-01-31T12:00:00Z,", "expires_at must be a time with a zone"),
        (b"x,,*:read,,KEY", "metadata must be JSON, such as"),
        (b'x,,*:read,,"[""KEY""]"', "metadata must be an object"),
        (b'x,,*:read,,"{""KEY"": 1}"', "a value in metadata must be a text"),
        (b"x,,*:read,," + b"[" * 100_000, "metadata must be JSON, such as"),
        (b"x,,*:read,," + b"y" * 200_000, "metadata must be JSON, such as"),
        (b"KEY" * RECORD_MAX, f"longer than {RECORD_MAX} bytes"),
    ],
)
def test_bad_row(line: bytes, said: str) -> None:
    """An invalid row is named by its line without its content, and the rows around it are imported."""
    good = b"%b,,*:read,,\n" % KEY.encode()
    before, bad, after = rows(
        b"key,name,permissions,expires_at,metadata\n" + good + line.replace(b"KEY", KEY.encode()) + b"\n" + good
    )
    assert isinstance(bad, BadRow)
    assert bad.line == 3
    assert bad.error.startswith(said)
    assert KEY not in bad.error
    assert isinstance(before, Row)
    assert isinstance(after, Row)
    assert (before.key, after.line) == (KEY, 4)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            b"",
            "no header with the column key; columns, separated by commas, semicolons or tabs, are key, name",
        ),
        (b"\n", "no header with the column key"),
        (KEY.encode(), "no header with the column key"),
        (b"key|name\n", "no header with the column key"),
        ("key\n".encode("utf-16"), "UTF-16; save it as CSV in UTF-8"),
        (b"key,value,owner id\n", "unknown column value, owner id; columns"),
        (KEY.encode() + b",key\n", "unknown column number 1; columns"),
        (b"key,name,key\n", "a column is there twice"),
        (b'"key,name\n', "no CSV"),
    ],
)
def test_no_header(header: bytes, said: str) -> None:
    """A file is rejected whole when its first line does not name its columns; that line may hold a key."""
    with pytest.raises(InvalidInput) as refused:
        rows(header)
    assert str(refused.value).startswith(f"line 1: {said}")
    assert KEY not in str(refused.value)
    assert KEY.lower() not in str(refused.value)


def test_no_key_in_a_repr() -> None:
    """A row in a traceback or a log shows its line and no more."""
    assert repr(rows(b"key\n%b\n" % KEY.encode())[0]) == "Row(line=2)"


def test_memory(tmp_path: Path) -> None:
    """One long line takes no more memory than a line may."""
    path = tmp_path / "long.csv"
    path.write_bytes(b"key\n" + b"x" * (64 * RECORD_MAX) + b"\n" + KEY.encode())
    with path.open("rb") as stream:
        tracemalloc.start()
        found = list(KeyRows(stream, KeyTerms(), permissions_given=False))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert [(row.line, type(row)) for row in found] == [(2, BadRow), (3, Row)]
    assert peak < 10 * RECORD_MAX


def test_a_name_that_would_break_a_line() -> None:
    """A name with a line break of any kind invalidates its row, and is not repeated."""
    (bad,) = rows("key,name\nk,a\u2028b\n".encode())
    assert bad == BadRow(2, "the name must hold no control and no invisible character (got U+2028)")


TWO = [("key-of-another-system-1", "one"), ("key-of-another-system-2", "two")]


@pytest.mark.parametrize(
    "content",
    [
        "key,name\rKEY1,one\rKEY2,two\r",
        "key,name\nKEY1,one\r\nKEY2,two",
        "key;name\nKEY1;one\nKEY2;two\n",
        "key\tname\nKEY1\tone\nKEY2\ttwo\n",
        "sep=;\r\nkey;name\r\nKEY1;one\r\nKEY2;two\r\n",
        "\ufeffkey,name\nKEY1,one\nKEY2,two\n",
        "key,name,,\nKEY1,one,,\nKEY2,two,,\n",
        ' "key" , name\n"KEY1" , "one"\n  KEY2,\t"two"\t\n',
        'key,name\n="KEY1",one\n"=""KEY2""",two\n',
        "\n,\nkey,name\n\n KEY1,one \n,\nKEY2,two\n\n",
    ],
)
def test_files_of_spreadsheets(content: str) -> None:
    """Line ends, separators, blanks, empty columns and texts written as formulas, as spreadsheets export them."""
    found = rows(content.replace("KEY", "key-of-another-system-").encode())
    assert [(row.key, row.terms.name) for row in found if isinstance(row, Row)] == TWO


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_breaks_in_quotes(end: str) -> None:
    """A cell in quotes may hold line breaks, and no row of its own; lines are counted as an editor counts them."""
    content = """key,name,permissions,metadata
KEY1,one,"customer:read
invoice:read","{""team"":
""billing""}"
KEY2,"evil
KEY3,evil,*:write,
",customer:read,
KEY4,four,customer:read,
"""
    first, evil, last = rows(content.replace("\n", end).encode())
    assert isinstance(first, Row)
    assert (first.line, first.terms.metadata, sorted(first.terms.permissions)) == (
        2,
        {"team": "billing"},
        ["customer", "invoice"],
    )
    assert evil == BadRow(5, f"the name must hold no control and no invisible character (got U+{ord(end[0]):04X})")
    assert (last.line, getattr(last, "key", "")) == (8, "KEY4")


def test_a_quote_that_is_left_open() -> None:
    """It invalidates its own row, wherever the next quote is, and at the end of the file."""
    spoiled = [
        row.line
        for row in rows(b'key,name\nk1,"one\nk2,"two"\nk3,three\n"k4,four\nk5,five\n')
        if isinstance(row, BadRow)
    ]
    assert spoiled == [2, 5]
    endless = b'key,name\nk1,"one\n' + b"k2,two\n" * 3000
    assert [row.line for row in rows(endless)] == list(range(2, 3003))


class _Endless:
    """An endless stream without a line break."""

    def read1(self, size: int, /) -> bytes:
        return bytes(size)


def test_endless_input() -> None:
    """A device that gives bytes for ever is rejected, before and behind a header."""
    with pytest.raises(InvalidInput, match=r"^line 1: longer than"):
        KeyRows(_Endless(), KeyTerms(), permissions_given=False)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_input_in_pieces(size: int) -> None:
    """Wherever a pipe pauses, also between CR and LF, the rows are the same."""

    class Trickle(io.BytesIO):
        def read1(self, _: int | None = -1, /) -> bytes:
            return self.read(size)

    content = b'key,name\r\nKEY1,"o\r\nne"\r\n\r\nKEY2,two\rKEY3,three'
    found = list(KeyRows(Trickle(content), KeyTerms(), permissions_given=False))
    assert [(row.line, type(row)) for row in found] == [(2, BadRow), (5, Row), (6, Row)]
