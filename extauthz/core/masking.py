"""How a message repeats what was typed: it may be a key in the wrong place, of which nothing more is shown."""

import re

SHOWN_MAX = 64  # characters

_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
_RUN = re.compile(r"[A-Za-z0-9\-._~+/]{16,}", re.ASCII)  # what a key is made of (RFC 9110 §11.4), as long as one is


def shown(text: str) -> str:
    """What was typed, `masked`, at most 64 characters of it."""
    return masked(text)[:SHOWN_MAX]


def masked(message: str) -> str:
    """A text in which ids, short words and blanks stay; of what could be a key there are four characters and `…`."""
    return _RUN.sub(_beginning, message)


def _beginning(run: "re.Match[str]") -> str:
    return run[0] if _UUID.fullmatch(run[0]) else f"{run[0][:4]}…"
