"""The prose of a file: comments, docstrings, messages and names of Python, text of documents, comments elsewhere."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

# A block of code or a comment for machines is blanked out, so that lines keep their numbers.
_MARKDOWN_CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`|\]\([^)]*\)|<!--.*?-->", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`[^`\n]*`")
_DASHES = re.compile(r"--(.*)")


class Text(NamedTuple):
    """Connected prose, and the line on which it begins."""

    line: int
    text: str


def texts(content: str, suffix: str) -> Iterator[Text]:
    """The prose of a file with that suffix."""
    match suffix:
        case ".py":
            yield from _python(content)
        case ".md":
            yield Text(1, _MARKDOWN_CODE.sub(_blank, content))
        case ".sql" | ".lua":
            yield from _joined(
                Text(number, found[1])
                for number, line in enumerate(content.splitlines(), 1)
                if (found := _DASHES.search(line))
            )
        case _:
            yield Text(1, re.sub("#", " ", content))


def _python(content: str) -> Iterator[Text]:
    """Comments, strings of more than a word, and names of functions with blanks for underscores."""
    tokens = tokenize.generate_tokens(io.StringIO(content).readline)
    yield from _joined(
        Text(token.start[0], _QUOTED.sub(_blank, token.string.lstrip("# ")))
        for token in tokens
        if token.type == tokenize.COMMENT
    )
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield Text(node.lineno, _QUOTED.sub(_blank, node.value))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Text(node.lineno, node.name.replace("_", " "))


def _joined(lines: Iterator[Text]) -> Iterator[Text]:
    """Lines that follow each other as one text, because a sentence may go over several comments."""
    text = Text(0, "")
    after = 0
    for line in lines:
        if text.text and line.line == after:
            text = Text(text.line, f"{text.text}\n{line.text}")
        else:
            if text.text:
                yield text
            text = line
        after = line.line + 1
    if text.text:
        yield text


def _blank(found: re.Match[str]) -> str:
    """Line breaks alone, or a mark that stands for a name."""
    return "\n" * found[0].count("\n") or "…"
