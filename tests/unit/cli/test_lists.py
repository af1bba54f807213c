"""Lists on a terminal of 80 columns, and the last use of each key in the list of keys."""

import re
from datetime import UTC, datetime

import pytest

from extauthz.cli import audit, key_texts, output
from extauthz.core.limits import UNLIMITED
from extauthz.core.management import AuditEntry, KeyDetails

ID = "6e2b1fdb-aa34-4ce3-b10e-7f2c47957726"
AT = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)
ENTRY = AuditEntry(1, AT, "cli:root", "extauthz", "api_key.update", "api_key", ID, "ci", ID, {"burst": [20, 1000]})
UNUSED = KeyDetails(ID, ID, "ci", "xa_live_…y7F7", {}, {}, UNLIMITED, "p", AT, AT, None, None, None, None, None, 1)
USED = KeyDetails(ID, ID, "ci", "xa_live_…y7F7", {}, {}, UNLIMITED, "p", AT, AT, None, None, None, AT, None, 1)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.usefixtures("terminal")
def test_the_audit_log_keeps_its_point(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a table does not fit, each change is a block of lines, one of which shows what changed."""
    monkeypatch.setattr(audit, "read_settings", lambda _: None)
    monkeypatch.setattr(audit, "manage", lambda _settings, _work: [ENTRY, ENTRY])
    audit.audit(None, limit=50, config=None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("changes  burst: 20 -> 1000") == 2
    assert max(map(len, lines)) <= 80


def test_a_list_of_keys_says_when_each_was_used(capsys: pytest.CaptureFixture[str]) -> None:
    """Last used stands in its own column: a time, or never."""
    key_texts.print_list([USED, UNUSED])
    header, *rows = (re.split(r"  +", line) for line in capsys.readouterr().out.splitlines())
    assert header[-1] == "LAST USED"
    assert [row[-1] for row in rows] == ["2026-11-30T04:00:00Z", "never"]
