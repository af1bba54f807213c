"""`make prose` finds banned phrases in every kind of file, and allows a room no more of them than rooms.toml says."""

from pathlib import Path

import pytest

from tests.prose.__main__ import excess, found_in
from tests.prose.phrases import BANNED, Phrase


@pytest.mark.parametrize("phrase", BANNED, ids=lambda phrase: phrase.wrong)
def test_example_of_phrase_is_found_and_its_correction_is_not(phrase: Phrase) -> None:
    """Each phrase is described by a sentence that has it, and by one that says the same without any banned phrase."""
    assert phrase.pattern.search(phrase.wrong.lower())
    assert phrase.reason
    assert not [each for each in BANNED if each.pattern.search(phrase.right.lower())]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("a.py", '"""Keys.\n\nNobody waits."""\n', [3]),
        ("a.py", "x = 1  # nobody waits\n", [1]),
        ("a.py", "# the value\n# is no\n# number\n", [2]),
        ("a.py", "def test_nobody_waits(): ...\n", [1]),
        ("a.py", 'raise ValueError("nobody waits")\n', [1]),
        ("a.py", "nobody = 1\n", []),
        ("a.md", "# Keys\n\nNobody\nwaits.\n", [3]),
        ("a.md", "```\nnobody\n```\n`nobody`\n", []),
        ("a.md", "There is no key. It is no longer valid. Operators who wait.\n", []),
        ("a.sql", "SELECT 'nobody'; -- nobody waits\n", [1]),
        ("a.lua", "-- which is no\n-- number\n", [1]),
        ("a.conf", "# nobody waits\n", [1]),
    ],
)
def test_phrases_are_found_where_they_stand(tmp_path: Path, name: str, content: str, lines: list[int]) -> None:
    """In comments, docstrings, messages and names of Python, in documents outside code, in comments of other files."""
    path = tmp_path / name
    path.write_text(content)
    assert [found.line for found in found_in(path, name)] == lines


def test_room_may_have_as_many_phrases_as_are_listed(tmp_path: Path) -> None:
    """One more than listed fails, with all that its room has; a room that is not listed has none."""
    path = tmp_path / "a.md"
    path.write_text("Nobody waits. Somebody waits.\n")
    found = list(found_in(path, "docs/a.md"))
    assert excess(found, {"docs": 2}) == []
    assert excess(found, {"docs": 1}) == found
    assert excess(found, {}) == found
