"""Plain requests: recognised from their bytes in one look, and read without a parser.

A plain request is one that every reader of RFC 9112 reads in one way: one request alone, HTTP/1.1, a method other
than HEAD, no body, nothing that ends or changes the connection, visible ASCII and blanks only, one `Host`, at most one
`Authorization`. All others are left to aiohttp's parser; a differential fuzz test holds the two against each other.
"""

import re

PLAIN_BYTES_MAX = 16_384  # longer ones are rare, and their bounds are the parser's affair


def in_any_case(name: str) -> bytes:
    """A pattern of a name; explicit letters are several times faster than a flag."""
    return "".join(f"[{each}{each.upper()}]" if each.isalpha() else each for each in name).encode()


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_UNREAD = rb": [!-~][ -~]*+(?<! )\r\n"  # a value that ends with a blank is one without it
_VALUE = rb": ([!-~][ -~]*+)(?<! )\r\n"
# How the names begin of headers that change the message or its connection, or that may stand only once.
_SPECIAL = (
    "au", "con", "etag", "exp", "host", "keep", "max-", "pro", "sec-w", "server", "te:", "trai", "tran", "upgrade:",
    "user-",
)  # fmt: skip
# Most names begin with a letter that no special one begins with, which spares the look at what follows. Nothing in a
# possessive repeat may match in two ways: that goes wrong before Python 3.11.5.
_OTHERS = (
    rb"(?:(?:[bdfgijlnoqrvwxyzBDFGIJLNOQRVWXYZ]|(?!" + b"|".join(map(in_any_case, _SPECIAL)) + rb")" + _TOKEN + rb")"
    + _TOKEN + rb"*+" + _UNREAD
    + rb"|(?:[uU]ser-[aA]gent|[cC]ontent-[tT]ype)" + _UNREAD
    + rb"|[cC]ontent-[lL]ength: 0\r\n|[cC]onnection: keep-alive\r\n){0,300}+"  # of all, fewer than the parser takes
)  # fmt: skip
_HOST, _CREDENTIAL = rb"[hH]ost" + _UNREAD + _OTHERS, rb"[aA]uthorization" + _VALUE + _OTHERS
_PLAIN = re.compile(
    rb"((?:GET|POST|PUT|DELETE|PATCH|OPTIONS) /[!$->@-~]*+)(?:\?[!$-~]*+)? HTTP/1\.1\r\n"
    + _OTHERS
    + rb"(?:" + _HOST + rb"(?:" + _CREDENTIAL + rb")?|" + _CREDENTIAL + _HOST + rb")\r\n"
)  # fmt: skip


def recognise(data: bytes) -> tuple[bytes, bytes | None] | None:
    """Method and path of a plain request, without the query, and its credential; None where it is not plain."""
    found = _PLAIN.fullmatch(data) if len(data) <= PLAIN_BYTES_MAX else None
    if found is None:
        return None
    # The parser refuses Content-Length, Content-Type and User-Agent where they are repeated.
    if data.count(b"gent: ") > 1:
        return None
    if data.count(b"ontent-") > 1 and (data.count(b"ength: 0\r\n") > 1 or data.count(b"ype: ") > 1):
        return None
    line, first, second = found.groups()
    return line, first or second


class PlainRequest:
    """What a plain request says, read when it is asked for: the same as aiohttp's request would say."""

    __slots__ = ("_data", "_names")

    def __init__(self, data: bytes) -> None:
        """`data` must have been recognised."""
        self._data = data
        self._names = b""  # the same bytes in lower case: a line begins with a name, and no value holds a line's end

    @property
    def method(self) -> str:
        """As it was sent."""
        return self._data.partition(b" ")[0].decode("ascii")

    @property
    def target(self) -> str:
        """The raw path with its query."""
        return self._data.split(b" ", 2)[1].decode("ascii")

    def getall(self, key: str, default: list[str]) -> list[str]:
        """Every value of a header, in order; `default` where it is absent."""
        data, names, line = self._data, self._names, f"\r\n{key}: ".encode("ascii")
        if not names:
            names = self._names = data.lower()
        at = names.find(line)
        if at < 0:
            return default
        values = []
        while at >= 0:
            begin = at + len(line)
            end = data.index(b"\r\n", begin)
            values.append(data[begin:end].decode("ascii"))
            at = names.find(line, end)
        return values
