"""A key from standard input, typed or piped: it is never an argument, where others on this machine can read it."""

import os

from extauthz.core.errors import InvalidInput
from extauthz.core.explanation import KEY_MAX

NO_ARGUMENT = "a key must not be an argument, which other users can read: give it on standard input"


def typed(prompt: str) -> str:
    """Read a line from the terminal without echo; empty where there is none."""
    from getpass import getpass

    try:
        return _checked(getpass(prompt))
    except EOFError:
        return ""


def piped(source: int, *, instead: str) -> str:
    """The one line of a pipe, which may stay open after it; empty where there is none.

    `source` is its file descriptor, and `instead` what helps where it has more lines.
    """
    read = b""
    try:
        while b"\n" not in read and len(read) <= KEY_MAX and (more := os.read(source, KEY_MAX)):
            read += more
    except OSError as error:
        raise InvalidInput(f"standard input cannot be read: {error.strerror}") from None
    line, _, rest = read.partition(b"\n")
    if rest.strip():
        raise InvalidInput(f"standard input has more than one line; {instead}")
    return _checked(line.decode(errors="replace"))


def _checked(text: str) -> str:
    key = text.strip()
    if len(key) > KEY_MAX:
        raise InvalidInput(f"a key on standard input must have at most {KEY_MAX} characters")
    return key
