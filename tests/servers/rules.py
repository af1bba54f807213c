"""The rules and alerts of `compose/prometheus/`, and their pages."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "compose" / "prometheus"
RULES, ALERTS = FOLDER / "rules.yml", FOLDER / "alerts.yml"
PAGES = ROOT / "docs" / "howto" / "runbooks"
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of an alert: its title and its blocks of code."""

    name: str
    text: str

    @property
    def title(self) -> str:
        """The name of its alert."""
        return self.text.partition("\n")[0].removeprefix("# ")

    def blocks(self, language: str) -> list[str]:
        """The blocks of code in a language."""
        return [code.strip() for found, code in BLOCK.findall(self.text) if found == language]


def rules(file: Path) -> list[dict[str, Any]]:
    """Every rule of a file."""
    return [rule for group in yaml.safe_load(file.read_text("utf-8"))["groups"] for rule in group["rules"]]


def pages() -> list[Page]:
    """Every page of an alert."""
    return [Page(file.stem, file.read_text("utf-8")) for file in sorted(PAGES.glob("*.md"))]


def recorded() -> set[str]:
    """The names of series that recording rules make."""
    return {rule["record"] for rule in rules(RULES)}


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of rules, alerts and pages, with where it stands."""
    for rule in rules(RULES):
        yield rule["record"], rule["expr"]
    for rule in rules(ALERTS):
        yield rule["alert"], rule["expr"]
    for page in pages():
        for block in page.blocks("promql"):
            yield f"{page.name}.md", block


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """The series that an expression asks for."""
    found: list[promql_parser.VectorSelector] = []

    def visit(part: object) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            found.append(part)
        elif isinstance(part, promql_parser.MatrixSelector):
            found.append(part.vector_selector)

    promql_parser.walk(promql_parser.parse(expression), pre_visit=visit)
    return found
