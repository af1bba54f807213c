"""References in documents exist: files, folders, headings and names of the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREES = [folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
FILES = [file for tree in TREES for file in tree.rglob("*") if "__pycache__" not in file.parts] + list(ROOT.iterdir())
NAMES = sorted(str(file.relative_to(ROOT)) for file in FILES if file.suffix == ".md")
CODE = "\n".join(file.read_text() for file in FILES if file.suffix == ".py" and ROOT / "extauthz" in file.parents)
# What a reader, or a run of the project, makes.
MADE = re.compile(r"yours\.py|bill\.sql|extauthz\.toml|data/.*|run/.*|\./data.*|bench/.*")
EVERYDAY = {"uv"}  # names of other programs
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*(?:/|\.(?:py|md|toml|conf|yaml|yml|sql|lua|svg|json|txt))")
_NAME = re.compile(r"([A-Z]\w*\.[a-z]\w*|[A-Za-z]\w*)(?:\(.*\))?")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    """A document without its blocks of code."""
    return _FENCE.sub("", (ROOT / name).read_text())


def anchors(document: Path) -> set[str]:
    """What GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    """To a file of the project, and to a heading in it."""
    missing = []
    for name in NAMES:
        for link in _LINK.findall(text(name)):
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            file = (ROOT / name).parent / target if target else ROOT / name
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                missing.append((name, link))
    assert missing == []


def test_files_that_are_named_are_there() -> None:
    """A path in a document is one from the root, from the package, from the tests or from beside the document."""
    every, missing = {file.name for file in FILES}, []
    for name in NAMES:
        bases = (ROOT, ROOT / "extauthz", ROOT / "tests", (ROOT / name).parent)
        named = {code for code in _CODE.findall(text(name)) if _PATH.fullmatch(code) and not MADE.search(code)}
        missing += [
            (name, path)
            for path in named
            if not (path in every if "/" not in path else any((base / path).exists() for base in bases))
        ]
    assert missing == []


def test_names_that_contributors_are_sent_to_are_there() -> None:
    """What CONTRIBUTING.md calls by a name of the code, `name` or `Class.method`, the code has."""
    named = {found[1] for code in _CODE.findall(text("CONTRIBUTING.md")) if (found := _NAME.fullmatch(code))}
    assert {"LISTENERS", "KeyService.revoke"} <= named
    words = {word for name in named - EVERYDAY for word in name.split(".")}
    assert {word for word in words if not re.search(rf"\b{word}\b", CODE)} == set()


def test_contributors_find_every_room() -> None:
    """The table of rooms in CONTRIBUTING.md has each package, down to those inside of `service` and `backends`."""
    rooms = {str(file.parent.relative_to(ROOT / "extauthz")) + "/" for file in (ROOT / "extauthz").rglob("__init__.py")}
    listed = {code for code in _CODE.findall(text("CONTRIBUTING.md")) if code.endswith("/")}
    assert rooms - listed - {"./", "backends/postgres/migrations/versions/"} == set()


def test_classes_that_the_glossary_names_are_there() -> None:
    """A word of the glossary that stands for a class has the class of that name."""
    classes = {code for code in _CODE.findall(text("docs/glossary.md")) if re.fullmatch(r"[A-Z][a-z]+[A-Za-z]*", code)}
    assert "CircuitBreaker" in classes
    assert {name for name in classes if not re.search(rf"^class {name}\b", CODE, re.MULTILINE)} == set()
