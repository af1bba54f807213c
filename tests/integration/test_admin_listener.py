"""Answers of the private listener to requests that the HTTP library refuses by itself."""

from collections.abc import AsyncIterator

import pytest

from extauthz.admin.api import AdminApi
from tests.servers.admin_api import TOKENS, bearer, serving
from tests.servers.raw_http import ask, wire


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(AdminApi(None, TOKENS)) as port:
        yield port


def get(more: bytes) -> bytes:
    return b"GET /v1/openapi.json HTTP/1.1\r\nHost: here\r\n" + bearer() + more + b"\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(b"Expect: something-unheard-of\r\n"), 417),
        (b"OPTIONS * HTTP/1.1\r\nHost: here\r\n" + bearer() + b"\r\n", 404),
        (b"CONNECT something-unheard-of:443 HTTP/1.1\r\nHost: here\r\n" + bearer() + b"\r\n", 404),
        (b"GET /something-unheard-of HTTP/1.1\r\nHost: here\r\n\r\n", 404),
        (b"POST /livez HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n", 405),
        (b"SOMETHING-UNHEARD-OF\r\n\r\n", 400),
        (get(b"something unheard of: x\r\n"), 400),
    ],
)
async def test_answers_of_the_library_have_our_headers(port: int, data: bytes, status: int) -> None:
    """A request that the library refuses gets the headers of extauthz, no text of the library, and no echo."""
    answer = await ask(port, data)
    assert answer.status == status
    assert (answer["server"], answer["cache-control"], answer["x-content-type-options"]) == (
        "extauthz",
        "no-store",
        "nosniff",
    )
    assert b"unheard" not in answer.body
    assert answer["allow"] == ("GET,HEAD" if status == 405 else "")


async def test_a_trailer_is_not_a_header_of_the_next_request(port: int) -> None:
    """A chunked request is the last of its connection: its trailers do not reach the request behind it."""
    chunked = b"POST /v1/plans HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + bearer() + b"\r\n"
    behind = b"GET /v1/openapi.json HTTP/1.1\r\nHost: here\r\n\r\n"
    async with wire(port) as connection:
        answer = await connection.ask(chunked + behind)
        assert answer.status == 401
        assert await connection.ended() == b""
