"""The service over raw bytes, as proxies speak to it: the parts of a request, and what may follow it."""

import asyncio

import pytest

from tests.servers.raw_http import ask, wire
from tests.servers.serving import LISTENERS, Serving, check_form, question

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("silence")]


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_connection_is_kept_for_the_next_request(service: Serving, listener: str, key: str) -> None:
    """Allowed or refused, a proxy asks again on the same connection, and pipelined questions are answered in order."""
    paths = ["/a", "/a//b", "/b"]
    keys = [key, key, None]
    expected = ["allow", "path_ambiguous", "no_credentials"]
    async with wire(service.ports[listener]) as connection:
        for _ in range(3):
            for path, presented, decision in zip(paths, keys, expected, strict=True):
                answer = await connection.ask(question(listener, path, key=presented))
                check_form(answer, listener)
                assert answer.decision == decision
                assert not answer["connection"]
        connection.send(b"".join(question(listener, p, key=k) for p, k in zip(paths, keys, strict=True)))
        assert [(await connection.answer()).decision for _ in paths] == expected


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "QUERY", "PROPFIND"])
@pytest.mark.parametrize("listener", LISTENERS)
async def test_every_method_is_a_check(service: Serving, listener: str, key: str, method: str) -> None:
    """The method decides on the mode, never whether a request is checked; the length is exact, to HEAD as well."""
    head = method == "HEAD" and listener == "envoy"
    for presented, decision in ((key, "allow"), (None, "no_credentials")):
        async with wire(service.ports[listener]) as connection:
            connection.send(question(listener, "/", key=presented, method=method))
            answer = await connection.answer(to_head=head)
            assert answer.decision == decision
            if decision == "allow":
                mode = "read" if method in ("GET", "HEAD", "OPTIONS") else "write"
                assert answer["x-permissions"] == f"api:{mode}"
            if not head:
                check_form(answer, listener)
            connection.send(question(listener, key=key))
            assert (await connection.answer()).decision == "allow"


@pytest.mark.parametrize("listener", LISTENERS)
async def test_no_path_is_reserved(service: Serving, listener: str) -> None:
    """On a check listener no path answers without a check, not even those of the private one."""
    for path in ("/livez", "/readyz", "/metrics", "/v1/organizations", "/check", "/favicon.ico"):
        assert (await ask(service.ports[listener], question(listener, path))).decision == "no_credentials"


@pytest.mark.parametrize(
    "more",
    [
        b"Content-Length: 5\r\n",
        b"Content-Length: 999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\nContent-Length: 5\r\n",
    ],
)
@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_body_that_is_announced_is_not_waited_for(
    service: Serving, listener: str, key: str, more: bytes
) -> None:
    """The answer comes at once and ends the connection, as it announces: no byte of a body is another request."""
    smuggled = question(listener, "/smuggled", key=key)

    async def announce(late: bytes) -> None:
        async with wire(service.ports[listener]) as connection:
            answer = await connection.ask(question(listener, key=key, method="POST", more=more))
            check_form(answer, listener)
            assert (answer.decision, answer["connection"]) == ("allow", "close")
            connection.send(late)
            assert await connection.ended() == b""

    before = service.value("extauthz_decisions_total", dialect=listener, decision="allow")
    lates = (b"", b"a=b", smuggled, b"0\r\n\r\n" + smuggled, b"5\r\nhello\r\n0\r\n\r\n" + smuggled)
    await asyncio.gather(*map(announce, lates))
    after = service.value("extauthz_decisions_total", dialect=listener, decision="allow")
    assert after == before + len(lates)


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_smuggled_request_behind_a_body_is_never_checked(service: Serving, listener: str, key: str) -> None:
    """Bytes that arrive together with the announcement are not answered either."""
    smuggled = question(listener, "/smuggled", key=key)
    for more in (b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"):
        for body in (b"abc", b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"):
            before = service.value("extauthz_decisions_total", dialect=listener, decision="allow")
            async with wire(service.ports[listener]) as connection:
                connection.send(question(listener, key=key, method="POST", more=more) + body + smuggled)
                assert (await connection.answer()).decision in ("allow", "bad_proxy_request")
                assert await connection.ended() == b""
            assert service.value("extauthz_decisions_total", dialect=listener, decision="allow") <= before + 1


@pytest.mark.parametrize("listener", LISTENERS)
async def test_no_protocol_is_switched(service: Serving, listener: str, key: str) -> None:
    """A request for another protocol is answered as a check, and its connection ends."""
    for more in (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    ):
        async with wire(service.ports[listener]) as connection:
            answer = await connection.ask(question(listener, key=key, more=more))
            assert (answer.status, answer.decision, answer["connection"]) == (200, "allow", "close")
            connection.send(question(listener, key=key))
            assert await connection.ended() == b""


@pytest.mark.parametrize("listener", LISTENERS)
async def test_http_1_0_is_answered_and_closed(service: Serving, listener: str, key: str) -> None:
    """An old proxy gets its decision; without keep-alive its connection ends."""
    async with wire(service.ports[listener]) as connection:
        answer = await connection.ask(question(listener, key=key).replace(b"HTTP/1.1", b"HTTP/1.0"))
        check_form(answer, listener)
        assert answer.decision == "allow"
        assert await connection.ended() == b""


@pytest.mark.parametrize("listener", LISTENERS)
async def test_large_headers_are_read_and_too_large_ones_refused(service: Serving, listener: str, key: str) -> None:
    """60 KiB, as Envoy passes them, are taken in a header, the credential or the path; 70 KiB are a bad request."""
    for size, passes in ((60 * 1024, True), (70 * 1024, False)):
        long = b"a" * size
        asked = {
            "allow": question(listener, key=key, more=b"X-Cookie: " + long + b"\r\n"),
            "invalid_credentials": question(listener, key=long.decode()),
            "no_credentials": question(listener, b"/" + long),
        }
        for decision, data in asked.items():
            async with wire(service.ports[listener]) as connection:
                answer = await connection.ask(data)
                check_form(answer, listener)
                assert answer.decision == (decision if passes else "bad_proxy_request")
                if not passes:
                    assert (answer.status, answer.body) == (403, b"")
                    assert await connection.ended() == b""


@pytest.mark.parametrize("listener", ["nginx", "forward"])
async def test_a_request_without_method_or_path_is_refused(service: Serving, listener: str, key: str) -> None:
    """Method or path missing, empty, repeated, or in the headers of another dialect: never taken from elsewhere."""
    right = question(listener, "/a", key=key)
    other = question("forward" if listener == "nginx" else "nginx", "/a", key=key)
    method, path = (
        (b"X-Original-Method", b"X-Original-URI")
        if listener == "nginx"
        else (b"X-Forwarded-Method", b"X-Forwarded-Uri")
    )
    wrong = [
        other,
        right.replace(method + b": GET\r\n", b""),
        right.replace(path + b": /a\r\n", b""),
        right.replace(method + b": GET\r\n", method + b": \r\n"),
        right.replace(path + b": /a\r\n", path + b":\r\n"),
        right.replace(method + b": GET\r\n", 2 * (method + b": GET\r\n")),
        right.replace(path + b": /a\r\n", path + b": /a\r\n" + path.lower() + b": /b\r\n"),
    ]
    for data in wrong:
        answer = await ask(service.ports[listener], data)
        check_form(answer, listener)
        assert (answer.status, answer.decision) == (403, "bad_proxy_request")
    assert (await ask(service.ports[listener], right)).decision == "allow"


@pytest.mark.parametrize("listener", LISTENERS)
async def test_two_credentials_are_refused(service: Serving, listener: str, key: str) -> None:
    """A request with two `Authorization` headers is refused, whatever they say."""
    for second in (key, "sesame", ""):
        more = b"authorization: Bearer " + second.encode() + b"\r\n"
        answer = await ask(service.ports[listener], question(listener, key=key, more=more))
        check_form(answer, listener)
        assert (answer.status, answer.decision) == (401, "malformed_credentials")


@pytest.mark.parametrize("listener", LISTENERS)
async def test_half_a_request_holds_up_no_other(service: Serving, listener: str, key: str) -> None:
    """A client that stops in the middle of a header waits alone; others are answered, and its end decides nothing."""
    whole = question(listener, key=key)
    async with wire(service.ports[listener]) as half, wire(service.ports[listener]) as other:
        for cut in (1, len(whole) // 2, len(whole) - 1):
            half.send(whole[:cut] if cut == 1 else b"")
            assert (await other.ask(whole)).decision == "allow"
        half.half_close()
        assert await half.ended() == b""
    async with wire(service.ports[listener]) as slow:
        for byte in whole:
            slow.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await slow.answer()).decision == "allow"
