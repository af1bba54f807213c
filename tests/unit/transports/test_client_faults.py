"""Any request of a client is answered by a decision: no 5xx, no silence, on both paths of every dialect."""

import pytest

from tests.servers.serving import LISTENERS, question
from tests.unit.service.fakes import SECRET, open_house
from tests.unit.transports.check_listener import Door, decisions

pytestmark = [
    pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "full path"]),
    pytest.mark.parametrize("listener", LISTENERS),
]

LONG = b"x" * 60_000
LINES = [
    *[
        b"x-envoy-expected-rq-timeout-ms: " + said
        for said in (b"0", b"1", b"2", b"19", b"-1", b"1.5", b"9" * 60, b"nan")
    ],
    b"x-envoy-expected-rq-timeout-ms: 1\r\nx-envoy-expected-rq-timeout-ms: 1",
    *[b"Content-Encoding: " + coding for coding in (b"br", b"zstd", b"deflate", b"gzip, gzip", b"\xff")],
    *[b"Content-Encoding: " + coding + b"\r\nContent-Length: 5" for coding in (b"br", b"zstd", b"gzip", b"x")],
    *[b"Transfer-Encoding: " + coding for coding in (b"gzip", b"gzip, chunked", b"chunked, chunked", b"x", b"\xff")],
    *[b"Content-Length: " + length for length in (b"-1", b"0x5", b"1_0", b"9" * 30, b"", b"5\r\nContent-Length: 6")],
    *[b"Expect: " + wish for wish in (b"200-ok", b"100-continue", b"\xff")],
    *[b"Connection: " + wish for wish in (b"upgrade", b"\xff", b"close, keep-alive", b"Authorization", b"")],
    *[b"Upgrade: " + protocol for protocol in (b"h2c", b"websocket", b"\xff", b"")],
    *[b"Host: " + host for host in (b"[", b"a:b", b"\xff", b"")],
    *[
        b"Authorization: " + said
        for said in (b"", b"Bearer", b"Bearer \xff", b"Bearer " + LONG, b"Basic \xff", b"\xff")
    ],
    *[b"X-Request-ID: " + said for said in (b"", b"\xff", LONG, b"a\r\nX-Request-ID: b")],
    *[b"X-Forwarded-For: " + said for said in (b"", b",", b"\xff", LONG, b"::1%" + LONG, b"[" + LONG, b"1" * 6000)],
    *[b"X-Real-IP: " + said for said in (b"", b"\xff", LONG, b"1.2.3.4:" + b"9" * 6000, b"::" + b":" * 6000)],
    *[b"traceparent: " + said for said in (b"", b"00-\xff", LONG)],
    *[b"Cookie: " + said for said in (b"=", b'a="\x80', b";" * 6000)],
    b"Content-Type: \xff; charset=\xff",
    b"Range: bytes=9-1",
    b"If-None-Match: \xff",
    b"\xff: x",
    b"a b: x",
    b": x",
    b"no colon",
    b" folded",
    b"x: y\r\n folded",
    b"X-Nul: a\0b",
    b"X-CR: a\rb",
]
TARGETS = [
    *[b"*", b"", b"?", b"/?", b"/#", b"//", b"//[", b"http://[", b"http://h:99999999/", b"http://h/public/x", b"h:80"],
    *[b"/\xff", b"/a?\xff", b"/%", b"/%zz", b"/a?%zz", b"/%ff", b"/%00", b"/\x7f", b"/" + LONG, b"/?" + LONG],
    *[b"/api/\xff/7", b"/api/" + LONG, b"/" * 60_000, b"/api/*/7", b"/api/%2a/7", b"/..", b"/\xe2\x80\xae", b"/ /"],
]
METHODS = [b"get", b"HEAD", b"CONNECT", b"PRI", b"QUERY", b"UNHEARD-OF", b"\xff", b"GET,POST", b"", b"A" * 6000]


async def test_no_header_line_makes_a_fault(listener: str, fast_path: bool) -> None:
    """Also for a key that PostgreSQL must be asked for, where a client's deadline would have an effect."""
    plain = question(listener, "/api/customers/7", key=SECRET)
    async with open_house(cache_keys=False) as fake_service, Door(fake_service, fast_path=fast_path).open() as door:
        for line in LINES:
            async with door.client(listener) as client:
                (said,) = decisions(await client.ask(plain.removesuffix(b"\r\n") + line + b"\r\n\r\n"))
            assert said in {
                "allow",
                "bad_proxy_request",
                "malformed_credentials",
                "invalid_credentials",
                "rate_limited",
            }, line
            if line.startswith((b"x-envoy", b"X-Re", b"X-Fo", b"tracep", b"Cookie", b"Range", b"If-N")):
                assert said in {"allow", "rate_limited"}, line
            fake_service.limits.now += 1
        assert not [d for _, d in fake_service.watch.reasons if d.endswith("unavailable")]


async def test_no_target_and_no_method_makes_a_fault(listener: str, fast_path: bool) -> None:
    """Where a request line cannot contain them, the parser's refusal is a decision, too."""
    async with open_house() as fake_service, Door(fake_service, fast_path=fast_path).open() as door:
        for target in TARGETS:
            async with door.client(listener) as client:
                (said,) = decisions(await client.ask(question(listener, target, key=SECRET)))
            assert not said.endswith("unavailable"), target
        plain = question(listener, "/api/customers/7", key=SECRET)
        for method in METHODS:
            asked = (
                plain.replace(b"GET ", method + b" ", 1)
                if listener == "envoy"
                else plain.replace(b": GET\r\n", b": " + method + b"\r\n")
            )
            async with door.client(listener) as client:
                client.send(asked)
                (said,) = decisions(await client.answer(to_head=listener == "envoy" and method == b"HEAD"))
            assert not said.endswith("unavailable"), method
