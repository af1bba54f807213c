"""The content of a request, read by extauthz's own reading of plain ones and by aiohttp's parsers."""

import asyncio
from typing import Any, NamedTuple

from aiohttp import HttpVersion11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE

from extauthz.transports.http.bounded import HEADER_LINES_MAX
from extauthz.transports.http.connection import HEADER_BYTES_MAX
from extauthz.transports.http.plain import PlainRequest, recognise
from tests.unit.transports.head_pieces import OUR_NAMES

PLAIN = b"GET /a?b HTTP/1.1\r\nHost: c\r\nAuthorization: d\r\nx: e\r\n\r\n"
# Not plain, and yet another request may follow on the connection.
OTHER_REQUESTS = [
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a/b#c HTTP/1.1\r\nHost: a\r\nConnection: x, keep-alive\r\nX:\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: a\r\nServer: b\r\nContent-Encoding: gzip\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\nKeep-Alive: 5\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\nauthorization: c\r\nX-Bytes: \xff\r\n\r\n",
]
PARSER_REQUESTS = 50  # that one parser reads before another one takes its place
# Those of a connection.
OPTIONS: dict[str, Any] = {
    "max_line_size": HEADER_BYTES_MAX,
    "max_field_size": HEADER_BYTES_MAX,
    "max_headers": HEADER_LINES_MAX,
    "max_msg_queue_size": MAX_MSG_QUEUE_SIZE,
}


class Reading(NamedTuple):
    """The content of a request: `headers` in order by their names in lower case, and the number of lines."""

    method: str
    target: str
    route: str
    credential: str | None
    headers: dict[str, list[str]]
    lines: int


class Parsers:
    """Parsers as a connection has them: new ones, and one that has read before."""

    def __init__(self, kind: type[HttpRequestParser]) -> None:
        self._kind = kind
        self._loop = asyncio.new_event_loop()
        self._loop.close()  # a parser does not run it
        self._requests = 0
        self._used = self.new()

    def new(self) -> HttpRequestParser:
        """One that has read nothing."""
        return self._kind(BaseProtocol(self._loop), self._loop, 2**16, **OPTIONS)

    def used(self) -> HttpRequestParser:
        """One that has read requests, all of them whole."""
        if self._requests == PARSER_REQUESTS:
            self._requests, self._used = 0, self.new()
        self._requests += 1
        if self._requests % 3 == 0:
            other = OTHER_REQUESTS[self._requests // 3 % len(OTHER_REQUESTS)]
            assert len(self._used.feed_data(other)[0]) == 1
            self._used.message_consumed()
        return self._used


def own_reading(data: bytes) -> Reading | None:
    """The content of a plain request by extauthz's own reading; None where it is not plain."""
    recognised = recognise(data)
    if recognised is None:
        return None
    route, credential = recognised
    request = PlainRequest(data)
    names = {line.partition(b":")[0].decode("latin-1").lower() for line in data.split(b"\r\n")[1:-2]}
    names.update(OUR_NAMES, [name[1:] for name in names], [name[:-1] for name in names])
    return Reading(
        request.method,
        request.target,
        route.decode(),
        None if credential is None else credential.decode(),
        {name: values for name in names if (values := request.getall(name, []))},
        data.count(b"\r\n") - 2,
    )


def is_special(message: RawRequestMessage) -> bool:
    """Whether a request asks for more than one answer with its body, after which the next request may come."""
    return (
        message.version != HttpVersion11
        or message.method in {"HEAD", "CONNECT"}
        or bool(message.should_close or message.upgrade or message.chunked or message.compression)
        or any(name in message.headers for name in ("Expect", "Transfer-Encoding", "Upgrade"))
        or message.headers.get("Content-Length", "0") != "0"
    )


def parsed_reading(parser: HttpRequestParser, data: bytes) -> Reading | str:
    """The content by a parser; a text where that is not one request after which the connection is as before."""
    try:
        messages, upgraded, behind = parser.feed_data(data)
        parser.feed_eof()
    except Exception as error:  # noqa: BLE001 - of any kind: it is reported as the difference
        return repr(error)
    if len(messages) != 1 or upgraded or behind:
        return f"{len(messages)} requests, upgraded: {upgraded}, behind: {behind!r}"
    message, payload = messages[0]
    parser.message_consumed()
    if payload is not EMPTY_PAYLOAD or is_special(message):
        return f"{message}, {payload}"
    credentials = message.headers.getall("Authorization", [])
    return Reading(
        message.method,
        message.path,
        f"{message.method} {message.path.partition('?')[0]}",
        credentials[0] if len(credentials) == 1 else None,
        {name: message.headers.getall(name) for name in {name.lower() for name in message.headers}},
        len(message.raw_headers),
    )
