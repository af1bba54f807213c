"""Requests of every shape: bodies, HEAD, kept connections, long headers, and bytes that try to be another request."""

import pytest

from extauthz.demo.stack import Proxy
from tests.e2e.client import Client, ask, bearer, request
from tests.e2e.site import Customer, Site

PATH = "/api/v1/customers/42"
MEGABYTE = 1_000_000


def chunked(body: bytes, size: int = 65_536) -> bytes:
    """A body in chunks, with the last, empty one."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_arrives_whole(proxy: Proxy, customer: Customer, method: str) -> None:
    """A megabyte with Content-Length, the connection usable afterwards."""
    with Client(proxy.port) as client:
        for _ in range(2):
            answer = client.ask(PATH, bearer(customer.key), method=method, body=b"b" * MEGABYTE)
            assert (answer.status, answer.json["method"], answer.json["body_bytes"]) == (200, method, MEGABYTE)
            assert answer.seen["x-permissions"] == "customer:write"


def test_a_chunked_body_arrives_whole(proxy: Proxy, customer: Customer) -> None:
    """A megabyte in chunks, the connection usable afterwards."""
    head = request(PATH, bearer(customer.key) | {"Transfer-Encoding": "chunked"}, method="POST")
    with Client(proxy.port) as client:
        for _ in range(2):
            client.write(head + chunked(b"c" * MEGABYTE))
            answer = client.read()
            assert (answer.status, answer.json["body_bytes"]) == (200, MEGABYTE)


def test_a_body_of_a_refused_request(proxy: Proxy) -> None:
    """It is thrown away; the next request on the connection, if it stays, is read from its own first byte."""
    for framing in ({"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}):
        body = b"hello" if "Content-Length" in framing else chunked(b"hello")
        with Client(proxy.port) as client:
            for path in (PATH, "/elsewhere"):
                client.write(request(path, framing, method="POST") + body)
                assert client.read().decision == ("no_credentials" if path == PATH else "route_not_allowed")


def test_head(proxy: Proxy, customer: Customer) -> None:
    """HEAD asks for `read`, and its answers, allowed and refused, have no body."""
    with Client(proxy.port) as client:
        allowed = client.ask(PATH, bearer(customer.key), method="HEAD")
        refused = client.ask(PATH, method="HEAD")
        after = client.ask(PATH, bearer(customer.key))
    assert (allowed.status, allowed.decision) == (200, "allow")
    assert (refused.status, refused.decision, refused["x-extauthz-code"]) == (401, "no_credentials", "no_credentials")
    assert after.seen["x-permissions"] == "customer:read"


@pytest.mark.parametrize("method", ["QUERY", "PROPFIND", "G~T", "get", "TRACE", "X" * 200])
def test_any_method(proxy: Proxy, reader: Customer, method: str) -> None:
    """A method that is not safe needs `write`; none causes a 5xx or counts as another one."""
    answer = ask(proxy, PATH, bearer(reader.key), method=method)
    assert answer.status in {400, 403, 405}
    assert answer.decision in {None, "permission_denied", "bad_proxy_request"}


def test_one_connection_many_outcomes(site: Site, proxy: Proxy, customer: Customer, reader: Customer) -> None:
    """Fifty requests of all outcomes on one connection get each its own answer."""
    spent = site.customer(daily_quota=1)
    assert ask(proxy, PATH, bearer(spent.key)).status == 200
    asks = [
        (PATH, bearer(customer.key), "GET", None, 200),
        (PATH, {}, "GET", None, 401),
        (PATH, bearer(reader.key), "POST", b"x" * 5_000, 403),
        (PATH, bearer(spent.key), "GET", None, 429),
        (PATH, bearer(customer.key), "POST", b"y" * 100_000, 200),
        ("/public/x", {}, "GET", None, 200),
        (PATH, {}, "POST", b"z" * 100, 401),
        ("/elsewhere", bearer(customer.key), "HEAD", None, 403),
        (PATH, {"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"}, "OPTIONS", None, 20),
        (PATH, bearer(spent.key), "PUT", b"w", 429),
    ]
    with Client(proxy.port) as client:
        for number in range(50):
            path, headers, method, body, status = asks[number % len(asks)]
            answer = client.ask(f"{path}?{number}", headers, method=method, body=body)
            assert str(answer.status).startswith(str(status)), number
            if answer.status == 200 and answer.body:
                assert answer.json["path"] == f"{path}?{number}"


SMUGGLED = request(
    "/",
    {
        "X-Original-Method": "GET",
        "X-Original-URI": "/public/free",
        "X-Forwarded-Uri": "/public/free",
        "Connection": "keep-alive",
    },
) + request("/public/free")


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("path", [PATH, "/public/upload", "/elsewhere"])
def test_a_body_is_never_a_check(proxy: Proxy, customer: Customer, path: str, framing: str) -> None:
    """Bytes inside a body that look like a check stay a body: the requests behind it are checked as themselves."""
    headers = bearer(customer.key)
    if framing == "length":
        first = request(path, headers, method="POST", body=SMUGGLED)
    else:
        first = request(path, headers | {"Transfer-Encoding": "chunked"}, method="POST") + chunked(SMUGGLED)
    for _ in range(5):
        with Client(proxy.port) as client:
            client.write(first + request("/api/v1/invoices/1") + request(PATH, headers))
            assert client.read().status == (403 if path == "/elsewhere" else 200)
            assert client.read().decision == "no_credentials"
            last = client.read()
            assert (last.json["path"], last.seen["x-organization-id"]) == (PATH, customer.organization)
        assert ask(proxy, "/api/v1/invoices/1").decision == "no_credentials"


def test_two_framings_are_refused(proxy: Proxy, customer: Customer) -> None:
    """Content-Length beside Transfer-Encoding, or two lengths, end at the proxy; nothing behind them is answered."""
    for framing in (
        [("Content-Length", "6"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "chunked"), ("Content-Length", "6")],
        [("Content-Length", "0"), ("Content-Length", "6")],
    ):
        pairs = [*bearer(customer.key).items(), *framing]
        with Client(proxy.port) as client:
            client.write(request(PATH, pairs, method="POST") + b"0\r\n\r\nG" + request("/public/smuggled"))
            assert client.read().status == 400
            assert client.at_end()


def test_long_headers(proxy: Proxy, customer: Customer) -> None:
    """A header of 50 KiB reaches the upstream; a credential of that length is an unknown key."""
    long = "h" * 50 * 1024
    assert ask(proxy, PATH, bearer(customer.key) | {"X-Long": long}).seen["x-long"] == long
    assert ask(proxy, PATH, bearer(long)).decision == "invalid_credentials"
    assert ask(proxy, PATH, {"Authorization": f"Bearer {long} ("}).decision == "malformed_credentials"
    query = f"{PATH}?q={'q' * 50 * 1024}"
    assert ask(proxy, query, bearer(customer.key)).json["path"] == query


def test_too_long_headers(proxy: Proxy, customer: Customer) -> None:
    """More than the proxies take is refused by them: 400, 414 or 431."""
    with Client(proxy.port) as client:
        client.write(request(PATH, bearer(customer.key) | {"X-Long": "h" * 70 * 1024}))
        assert client.read().status in {400, 414, 431}
