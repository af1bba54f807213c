"""The rule for raw paths: one that two readers could understand differently is refused, never normalised."""

import re
from urllib.parse import unquote_to_bytes

# The encoding of a control character, `%`, `-`, `.`, `/`, a digit, a letter, `\`, `_` or `~`.
_NEEDLESS = r"[01].|2[5DEFdef]|3[0-9]|4[^0]|5[0-9AaCcFf]|6[^0]|7[0-9AaEeFf]"
# A search for what is wrong: a match of all that is right wants possessive quantifiers, which err before Python 3.11.4.
_AMBIGUOUS = re.compile(
    r"[^ -\"$-.0-:<-\[\]-~/]"  # what is not visible or blank, and `#`, `;`, `\`
    r"|/(?=/|\.{1,2}(?:/|\Z))"  # an empty segment before the last, one that is `.` or `..`
    rf"|%(?!(?!{_NEEDLESS})[0-9A-Fa-f]{{2}})"
)
_ENCODED_BEYOND_ASCII = re.compile(r"%[89A-Fa-f]")
_C1_CONTROL = re.compile(r"[\x80-\x9f]")


def is_ambiguous(raw_path: str) -> bool:
    """Whether the part before `?` is one that two readers could understand differently. Never raises."""
    path = raw_path.partition("?")[0]
    if not path.startswith("/") or _AMBIGUOUS.search(path) is not None:
        return True
    if _ENCODED_BEYOND_ASCII.search(path) is None:
        return False
    try:
        return _C1_CONTROL.search(unquote_to_bytes(path).decode()) is not None
    except UnicodeDecodeError:
        return True


def why_ambiguous(raw_path: str) -> str:
    """What makes the part before `?` ambiguous, in words for a person; empty where it is not. Never raises."""
    path = raw_path.partition("?")[0]
    if not is_ambiguous(path):
        return ""
    if not path.startswith("/"):
        return "the path does not begin with a slash"
    found = _AMBIGUOUS.search(path)
    if found is None:
        return "the path has encoded bytes that are not UTF-8, or a control character"
    if found[0] == "/":
        segment = path[found.end() :].partition("/")[0]
        return (
            f"the path has a segment `{segment}`" if segment else "the path has an empty segment: two slashes in a row"
        )
    if found[0] == "%":
        encoding = path[found.start() : found.start() + 3]
        if re.fullmatch("%[0-9A-Fa-f]{2}", encoding):
            return f"the path has {encoding}, the encoding of a character that must not be encoded in a path"
        return "the path has a `%` without two hexadecimal digits"
    character = found[0] if found[0].isascii() and found[0].isprintable() else f"U+{ord(found[0]):04X}"
    return f"the path has the character `{character}`"
