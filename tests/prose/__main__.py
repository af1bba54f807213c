"""`make prose`: prints banned phrases, and ends with 1 where a room has more of them than rooms.toml allows.

With `--write` it writes the counts of today into rooms.toml instead, none higher than before.
"""

import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.prose.phrases import BANNED, Phrase
from tests.prose.texts import texts

ROOT = Path(__file__).parents[2]
ROOMS = Path(__file__).with_name("rooms.toml")
# Data, generated files, other projects' texts, and the phrases themselves.
_SKIPPED = {".json", ".svg", ".pem", ".txt", ".csv"}
_LEFT_OUT = ("LICENSE", "tests/prose/phrases.py", "tests/prose/rooms.toml", "tests/servers/earlier/")


class Found(NamedTuple):
    """A banned phrase where it stands."""

    file: str
    line: int
    text: str
    phrase: Phrase

    @property
    def room(self) -> str:
        """The folder of the file, by which phrases are counted."""
        return str(Path(self.file).parent)

    def __str__(self) -> str:
        """One line for a terminal."""
        return f"{self.file}:{self.line}: “{self.text}”: {self.phrase.reason}"


def found_in(path: Path, name: str) -> Iterator[Found]:
    """The banned phrases of one file."""
    content = path.read_text()
    # Parsing takes most of the time, and most files have no such phrase.
    flat = content.replace("_", " ").lower()
    if not any(phrase.pattern.search(flat) for phrase in BANNED):
        return
    for text in texts(content, path.suffix):
        for phrase in BANNED:
            for match in phrase.pattern.finditer(text.text.lower()):
                line = text.line + text.text.count("\n", 0, match.start())
                yield Found(name, line, " ".join(match[0].split()), phrase)


def files() -> list[str]:
    """Files of the project, also those that are not committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [
        name
        for name in names
        if not name.startswith(_LEFT_OUT) and Path(name).suffix not in _SKIPPED and (ROOT / name).is_file()
    ]


def excess(found: Iterable[Found], allowed: dict[str, int]) -> list[Found]:
    """What is found in rooms that have more than they are allowed."""
    found = list(found)
    counts = Counter(each.room for each in found)
    return [each for each in found if counts[each.room] > allowed.get(each.room, 0)]


def main(arguments: list[str]) -> int:
    """Compare what is found with what rooms.toml allows."""
    allowed: dict[str, int] = tomllib.loads(ROOMS.read_text())
    found = [each for name in files() for each in found_in(ROOT / name, name)]
    if arguments == ["--write"]:
        counts = Counter(each.room for each in found)
        lower = {room: min(counts[room], allowed.get(room, 0)) for room in allowed if counts[room]}
        head = [line for line in ROOMS.read_text().splitlines() if line.startswith("#")]
        ROOMS.write_text("\n".join([*head, *(f'"{room}" = {count}' for room, count in sorted(lower.items()))]) + "\n")
        return 0
    wanted = [each for each in found if each.file.startswith(tuple(arguments))] if arguments else excess(found, allowed)
    sys.stdout.writelines(f"{each}\n" for each in wanted)
    return 1 if wanted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
