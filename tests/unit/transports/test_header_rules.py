"""Which header gives the question: the same on the wire for every dialect, whatever other headers there are."""

from collections.abc import Sequence

import pytest

from extauthz.transports.http.dialects.nginx import NginxQuestion
from tests.servers.serving import question
from tests.unit.service.fakes import open_house
from tests.unit.transports.check_listener import Door, decisions

KEPT = "/api/customers/7"  # without a key; other headers claim that it is public, or another host's

FORWARDED = [
    b"X-Forwarded-Method: OPTIONS",
    b"X-Forwarded-Uri: /public/x",
    b"X-Forwarded-Host: public.example.com",
]
ORIGINAL = [b"X-Original-Method: OPTIONS", b"X-Original-URI: /public/x", b"X-Original-Host: public.example.com"]
URL = b"X-Original-URL: http://public.example.com/public/x"
# Sources of a path, method or host for some proxy or framework, and never for this service.
FOREIGN = [
    b"Forwarded: host=public.example.com;proto=http",
    b"X-Auth-Request-Redirect: http://public.example.com/public/x",
    b"X-Envoy-Original-Path: /public/x",
    b"X-Envoy-Original-Method: OPTIONS",
    b"X-Forwarded-Path: /public/x",
    b"X-Forwarded-Prefix: /public",
    b"X-Forwarded-Proto: http",
    b"X-Forwarded-Server: public.example.com",
    b"X-HTTP-Method-Override: OPTIONS",
    b"X-Method-Override: OPTIONS",
    b"X-Rewrite-URL: /public/x",
    b"X-Replaced-Path: /public/x",
]
# A CGI application reads an underscore as a hyphen; here they are names that nothing reads.
TWINS = [line.split(b":")[0].replace(b"-", b"_") + b": /public/x" for line in (*FORWARDED, *ORIGINAL, URL)]

IGNORED = {
    "envoy": [*FORWARDED, *ORIGINAL, URL],
    "nginx": FORWARDED,
    "nginx by url": FORWARDED,
    "forward": [*ORIGINAL, URL],
}
REFUSED = {
    "envoy": [],
    "nginx": [*ORIGINAL[:2], URL, b"X-Original-URL:", b"x-original-url: /public/x"],
    "nginx by url": [ORIGINAL[0], *ORIGINAL[1:], URL, b"X-Original-URI:", b"x-original-host:"],
    "forward": FORWARDED[:2],
}


def asked(dialect: str, more: Sequence[bytes], *, before: bool) -> bytes:
    """A question whose further headers stand behind its own, or before them."""
    plain = question(dialect.partition(" ")[0], KEPT)
    if dialect == "nginx by url":
        plain = plain.replace(b"X-Original-URI: ", b"X-Original-URL: https://api.example.com")
    line, _, rest = plain.partition(b"\r\n")
    lines = b"".join(each + b"\r\n" for each in more)
    return line + b"\r\n" + lines + rest if before else plain.removesuffix(b"\r\n") + lines + b"\r\n"


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "full path"])
@pytest.mark.parametrize("dialect", IGNORED)
async def test_headers_that_give_the_question(dialect: str, fast_path: bool) -> None:
    """Foreign, unknown and underscore variants of headers change nothing; a repeated header is denied."""
    by: NginxQuestion = "url" if dialect == "nginx by url" else "uri"
    ignored = [*IGNORED[dialect], *FOREIGN, *TWINS]
    async with open_house() as fake_service, Door(fake_service, fast_path=fast_path, question=by).open() as door:
        async with door.client(dialect.partition(" ")[0]) as client:
            for before in (True, False):
                for each in ([], *([line] for line in ignored), ignored, 2 * ignored):
                    answer = await client.ask(asked(dialect, each, before=before))
                    assert decisions(answer) == ["no_credentials"], each
                for line in REFUSED[dialect]:
                    answer = await client.ask(asked(dialect, [line], before=before))
                    assert decisions(answer) == ["bad_proxy_request"], line
        assert not fake_service.keys.calls
        if fast_path:
            assert door.by_aiohttp == 2 * len(REFUSED[dialect])


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "full path"])
@pytest.mark.parametrize("by", ["uri", "url"])
async def test_nginx_has_one_question(by: NginxQuestion, fast_path: bool) -> None:
    """The header of the question that is not configured counts as none, alone or beside the right one."""
    url, uri = b"X-Original-URL: http://api.example.com/public/x\r\n", b"X-Original-URI: /public/x\r\n"
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX-Original-Method: GET\r\n"
    right, wrong = (uri, url) if by == "uri" else (url, uri)
    async with (
        open_house() as fake_service,
        Door(fake_service, fast_path=fast_path, question=by).open() as door,
        door.client("nginx") as client,
    ):
        said = [
            decisions(await client.ask(head + lines + b"\r\n"))
            for lines in (right, wrong, right + wrong, wrong + right)
        ]
    assert said == [["allow"], *3 * [["bad_proxy_request"]]]
