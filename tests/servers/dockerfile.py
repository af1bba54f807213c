"""`compose/Dockerfile` and `.dockerignore` as a builder reads them."""

import json
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers.compose import ROOT

FILE = ROOT / "compose" / "Dockerfile"
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Instruction(NamedTuple):
    """`RUN`, `COPY`, … and what stands behind it, in one line, with the values of ARGs filled in."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments of an instruction in the form of a JSON list, else its words."""
        return list(json.loads(self.text)) if self.text.startswith("[") else self.text.split()


class Stage(NamedTuple):
    """What one image of the file is made of. `base` is an image, or the name of an earlier stage."""

    base: str
    name: str
    instructions: list[Instruction]

    def all(self, name: str) -> list[Instruction]:
        """The instructions of that name in their order."""
        return [each for each in self.instructions if each.name == name]

    def last(self, name: str) -> Instruction:
        """The last instruction of that name, where the last one holds."""
        return self.all(name)[-1]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        return _pairs(self.all("ENV"))

    @property
    def labels(self) -> dict[str, str]:
        """What LABEL sets."""
        return _pairs(self.all("LABEL"))


def stages() -> list[Stage]:
    """The stages of the file in their order."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for name, raw in _instructions():
        text = _VARIABLE.sub(lambda match: arguments[match[1]], raw)
        if name == "ARG":
            argument, _, default = text.partition("=")
            arguments[argument] = default
        elif name == "FROM":
            base, _, stage = text.partition(" AS ")
            found.append(Stage(base, stage, []))
        else:
            found[-1].instructions.append(Instruction(name, text))
    return found


def context() -> Iterator[Path]:
    """The files that a builder is given, as paths from the root of the repository."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    given = {line[1:] for line in ignored if line.startswith("!")}
    for top in sorted(given):
        for file in (ROOT / top).rglob("*") if (ROOT / top).is_dir() else [ROOT / top]:
            path = file.relative_to(ROOT)
            if file.is_file() and not _is_ignored(path, ignored):
                yield path


def _is_ignored(path: Path, patterns: list[str]) -> bool:
    """Whether the last pattern that fits the path, or a folder above it, leaves it out."""
    ignored = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!").removeprefix("**/")
        names = [*path.parts] if "**/" in pattern else []
        places = [str(path), *map(str, path.parents)]
        if any(fnmatchcase(place, wanted) for place in (*places, *names)):
            ignored = not pattern.startswith("!")
    return ignored


def _instructions() -> Iterator[tuple[str, str]]:
    lines = [line for line in FILE.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    for statement in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = statement.strip().partition(" ")
        if name:
            yield name, " ".join(text.split()) if name != "RUN" else text.strip()


def _pairs(instructions: list[Instruction]) -> dict[str, str]:
    found = (re.findall(r'([\w.]+)=("[^"]*"|\S+)', each.text) for each in instructions)
    return {name: value.strip('"') for pairs in found for name, value in pairs}
