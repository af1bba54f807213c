import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from extauthz.cli import output

ID = "6e2b1fdb-aa34-4ce3-b10e-7f2c47957726"
KEY = "xa_live_4XAd33hTkSPZ8rjJSJa67vsMtvP1om4z1"


@pytest.fixture
def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 40 columns with colours."""
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_columns_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe a table is aligned text, as wide as it must be, also with characters of double width."""
    output.print_table(("name", "id"), [("acme", ID), ("株式会社", ID), ("x" * 100, ID)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{'NAME':100}  ID"
    assert lines[1] == f"{'acme':100}  {ID}"
    assert lines[2] == f"{'株式会社':96}  {ID}"
    assert lines[3] == f"{'x' * 100}  {ID}"


@pytest.mark.usefixtures("narrow_terminal")
def test_nothing_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal that is too narrow for a table, ids and keys stay whole, each in one line."""
    output.print_table(("id", "name"), [(ID, "acme corporation"), (ID, "another")])
    output.print_details({"id": ID, "key": KEY})
    out = capsys.readouterr().out
    assert out.count(ID) == 3
    assert KEY in out
    assert "…" not in out


@pytest.mark.usefixtures("narrow_terminal")
def test_folded_column(capsys: pytest.CaptureFixture[str]) -> None:
    """A column that may be folded is, and nothing of it is lost."""
    output.print_table(("setting", "value"), [("DATABASE_URL", "x" * 100)], folds=1)
    out = capsys.readouterr().out
    assert out.count("x") == 100
    assert max(len(re.sub(r"\x1b\[\d*m", "", line)) for line in out.splitlines()) == 40


@pytest.mark.usefixtures("narrow_terminal")
def test_a_folded_column_without_room(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the other columns leave no room for it, nothing is lost or cut off either."""
    output.print_table(("path", "request id"), [("/api/v1/customers/42", ID)], folds=0)
    out = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert out == f"path        /api/v1/customers/42\nrequest id  {ID}\n"


@pytest.mark.usefixtures("narrow_terminal")
def test_colours_only_where_wanted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colours, unless NO_COLOR says otherwise."""
    output.print_details({"id": ID})
    assert "\x1b[36m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    output.print_details({"id": ID})
    assert capsys.readouterr().out == f"id  {ID}\n"


def test_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """A stored text cannot control a terminal, start a line of its own, or act as markup."""
    output.print_details({"name": "a\nid  b\x1b[31m\u202e[red]"})
    output.print_table(("name",), [("a\x1b]0;x\x07",)])
    output.complain("one\ntwo\r")
    captured = capsys.readouterr()
    assert captured.out == "name  a id b\\x1b[31m\\u202e[red]\nNAME\na\\x1b]0;x\\x07\n"
    assert captured.err == "extauthz: one two\n"


def test_invisible_characters_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Invisible characters, changes of direction and odd blanks in a foreign name are shown as escapes."""
    hostile = "a\u200b\u202eb\u00a0c\u034f\u3164\x9b\x7f\ue000\U000e0041"
    output.print_line(hostile)
    output.print_json({"name": hostile, "also": "株 é"})
    line, _, text = capsys.readouterr().out.partition("\n")
    assert line == r"a\u200b\u202eb\xa0c\u034f\u3164\x9b\x7f\ue000\U000e0041"
    assert json.loads(text) == {"name": hostile, "also": "株 é"}
    assert "株 é" in text
    assert not any(hidden in text for hidden in hostile if not hidden.isalnum() or hidden == "\u3164")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON output is one value that reads back unchanged."""
    value = {"name": "株 😀 …", "none": None, "list": [1, True]}
    output.print_json(value)
    assert json.loads(capsys.readouterr().out) == value


def test_times() -> None:
    """Times are in UTC, whole seconds, in the form that `--expires-at` takes."""
    moment = datetime(2030, 1, 31, 13, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    assert output.time_text(moment) == "2030-01-31T12:00:00Z"
    assert datetime.fromisoformat(output.time_text(moment)).tzinfo == UTC
    assert output.time_text(None) == "never"
