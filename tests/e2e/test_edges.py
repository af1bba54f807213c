"""Envoy, Caddy (of Debian and the current one) and HAProxy with their shipped files: what a client cannot do."""

from collections.abc import Callable
from itertools import product

import pytest

from tests.e2e.checks import check_refused, check_unavailable
from tests.e2e.client import Answer, Client, ask, bearer, request
from tests.e2e.edges import Front, seen
from tests.e2e.site import Customer, Site, healthy
from tests.e2e.test_identity import ANSWERS, LIE, OURS, identity_of
from tests.e2e.test_paths import PATHS, judged_as
from tests.e2e.test_requests import chunked
from tests.servers.waiting import eventually

SPELLINGS: tuple[Callable[[str], str], ...] = (str, str.lower, str.upper, str.swapcase)
PATH = "/api/v1/customers/42"
PUBLIC = "/public/prices"
FORWARDED = (
    *(f"X-Forwarded-{what}" for what in ("For", "Host", "Proto", "Port", "Prefix", "Method", "Uri", "Server", "User")),
    *(f"X-Original-{what}" for what in ("URI", "URL", "Method", "Host", "Forwarded-For")),
    *(f"X-Envoy-{what}" for what in ("Auth-Failure-Mode-Allowed", "Internal", "Original-Path", "External-Address")),
    *("Forwarded", "X-Real-IP", "X-Rewrite-URL", "X-Request-ID", "X-Extauthz-Organization", "X-Extauthz-Key"),
)
HOPS = ("Connection", "Proxy-Connection", "Keep-Alive", "TE", "Trailer")
NAMED = (*OURS, "Authorization", "X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host", "X-Forwarded-For", "Host")
TWINS = [
    twin
    for name in (*OURS, "X-Extauthz-Code", "X-Forwarded-For")
    for separators in product("-_", repeat=name.count("-"))
    if (twin := "".join(map("".join, zip(name.split("-"), (*separators, ""), strict=True)))) != name
]


def check_identity(answer: Answer, owner: Customer | None) -> None:
    """Fails where the upstream saw another identity than the one of extauthz, once, or a forged header, or the key."""
    headers = seen(answer)
    expected = identity_of(owner) if owner else {}
    told = [(name, value) for name, value in headers if name in map(str.lower, OURS) and value]
    assert sorted(told) == sorted(expected.items())
    assert LIE not in str(answer.json)
    assert "authorization" not in dict(headers)
    assert "xa_live_" not in str(answer.json)


@pytest.mark.parametrize("path", [PATH, PUBLIC])
def test_forged_identity(edge: Front, customer: Customer, path: str) -> None:
    """In any spelling and number, before and after its key, a client's identity headers do not reach the upstream."""
    for spell in SPELLINGS:
        forged = [(spell(name), LIE) for name in OURS + ANSWERS for _ in range(2)]
        answer = ask(edge.proxy, path, [*forged, *bearer(customer.key).items(), *forged])
        check_identity(answer, None if path == PUBLIC else customer)
        assert LIE not in str(answer.headers)


def test_names_that_cgi_reads_alike(edge: Front, customer: Customer) -> None:
    """A header name that CGI and WSGI read as an identity header is refused by Envoy and dropped by the others."""
    for name, path in product(TWINS, (PATH, PUBLIC)):
        answer = ask(edge.proxy, path, [(name, LIE), *bearer(customer.key).items()])
        if edge.name == "envoy":
            assert (answer.status, answer.decision) == (400, None), name
        else:
            check_identity(answer, None if path == PUBLIC else customer)
    for name in ("X.Organization.Id", "x-organization.id"):
        check_identity(ask(edge.proxy, PATH, [(name, LIE), *bearer(customer.key).items()]), customer)


@pytest.mark.parametrize("hop", HOPS)
def test_hop_by_hop_names(edge: Front, customer: Customer, hop: str) -> None:
    """A client that lists a header in Connection removes none of the identity headers, here or at a later proxy."""
    for name, (path, keep) in product(NAMED, ((PATH, "close, "), (PATH, "keep-alive,"), (PUBLIC, ""))):
        pairs = [(hop, keep + name), (name, LIE)] if name not in {"Authorization", "Host"} else [(hop, keep + name)]
        answer = ask(edge.proxy, path, [*pairs, *bearer(customer.key).items(), ("Connection", "close")])
        if name == "Authorization" and answer.status == 401:
            continue
        if edge.name == "envoy" and (answer.status, answer.decision) == (400, None):
            continue  # Envoy refuses some names there
        check_identity(answer, None if path == PUBLIC else customer)
        listed = [value.lower() for header, value in seen(answer) if header in {"connection", "trailer"}]
        assert name.lower() not in ",".join(listed)
        assert ("host", "api.example.com") in seen(answer)


def test_headers_of_proxies(edge: Front, customer: Customer) -> None:
    """A client's forwarding headers reach neither extauthz nor the upstream."""
    forged = [(name, f"/public/{LIE}") for name in FORWARDED for _ in range(2)]
    assert ask(edge.proxy, PATH, forged).decision == "no_credentials"
    answer = ask(edge.proxy, PATH, [*forged, *bearer(customer.key).items()])
    check_identity(answer, customer)
    assert answer.json["path"] == PATH
    addresses = [value for name, value in seen(answer) if name == "x-forwarded-for"]
    assert len(addresses) == 1
    assert "," not in addresses[0]
    assert dict(seen(answer)).get("x-forwarded-host", "api.example.com") == "api.example.com"
    (request_id,) = [value for name, value in seen(answer) if name == "x-request-id"]
    assert len(request_id) >= 32


def test_envoys_own_headers(edge: Front, customer: Customer) -> None:
    """A client's time limits and retries for Envoy neither change what happens nor reach the upstream."""
    for name in ("x-envoy-expected-rq-timeout-ms", "x-envoy-upstream-rq-timeout-ms", "x-envoy-auth-headers-to-remove"):
        for value in ("0", "1", "x-organization-id"):
            check_identity(ask(edge.proxy, PATH, [(name, value), *bearer(customer.key).items()]), customer)


def test_two_credentials_are_refused(edge: Front, customer: Customer) -> None:
    """A request with two `Authorization` headers is refused."""
    pair = list(bearer(customer.key).items())
    for pairs in (pair + pair, [*pair, ("Authorization", f"Basic {LIE}")]):
        assert ask(edge.proxy, PATH, pairs).decision == "malformed_credentials"


@pytest.mark.parametrize("method", ["post", "Post", "get", "pOST", "geT", "delete", "head"])
def test_methods_in_lower_case(edge: Front, customer: Customer, method: str) -> None:
    """Some frameworks make POST of `post`: it does not reach the upstream."""
    before = edge.upstream.requests
    answer = ask(edge.proxy, PATH, bearer(customer.key), method=method)
    assert (answer.status, answer.decision) == (400, None)
    assert edge.upstream.requests == before


def test_head(edge: Front, customer: Customer) -> None:
    """HEAD asks for `read`; its answers, allowed and refused, have no body, and the connection goes on."""
    with Client(edge.proxy.port) as client:
        refused = client.ask(PATH, method="HEAD")
        assert (refused.status, refused.decision) == (401, "no_credentials")
        assert client.ask(PATH, bearer(customer.key), method="HEAD").status == 200
        answer = client.ask(PATH, bearer(customer.key))
    check_identity(answer, customer)


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_large_bodies(edge: Front, customer: Customer, framing: str) -> None:
    """Five megabytes arrive whole where the request may pass and nowhere else; the next request is checked alone."""
    body = b"b" * 5_000_000
    with Client(edge.proxy.port) as client:
        for _ in range(2):
            if framing == "length":
                client.write(request(PATH, bearer(customer.key), method="POST", body=body))
            else:
                head = request(PATH, bearer(customer.key) | {"Transfer-Encoding": "chunked"}, method="POST")
                client.write(head + chunked(body))
            answer = client.read()
            assert (answer.json["method"], answer.json["body_bytes"]) == ("POST", len(body))
            assert dict(seen(answer))["x-permissions"] == "customer:write"
    before = edge.upstream.requests
    assert ask(edge.proxy, PATH, method="POST", body=b"x" * 1000).decision == "no_credentials"
    assert edge.upstream.requests == before


def test_a_body_is_never_a_check(edge: Front, customer: Customer) -> None:
    """What looks like a check inside a body stays a body."""
    smuggled = request("/", {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": PUBLIC}) + request(PUBLIC)
    first = request(PATH, bearer(customer.key), method="POST", body=smuggled)
    with Client(edge.proxy.port) as client:
        client.write(first + request("/api/v1/invoices/1") + request(PATH, bearer(customer.key)))
        assert client.read().json["body_bytes"] == len(smuggled)
        assert client.read().decision == "no_credentials"
        check_identity(client.read(), customer)


def test_what_a_refused_client_gets(site: Site, edge: Front, reader: Customer) -> None:
    """Status, body and every header of a denial, the limits' included; on allow what is left of them."""
    spent = site.customer(daily_quota=1)
    assert ask(edge.proxy, PATH, bearer(spent.key)).status == 200
    check_refused(ask(edge.proxy, PATH, bearer(spent.key)), "daily_quota_exceeded", "daily")
    allowed = ask(edge.proxy, PATH, bearer(reader.key))
    assert allowed.decision == "allow"
    assert allowed["ratelimit-policy"] == '"burst";q=100;w=1'
    assert allowed["ratelimit"].startswith('"burst";r=')
    assert allowed["x-ratelimit-limit"] == "100"
    for method, headers, status, code, challenge in (
        ("GET", {}, 401, "no_credentials", 'Bearer realm="api"'),
        ("GET", bearer(LIE), 401, "invalid_credentials", 'Bearer realm="api", error="invalid_token"'),
        (
            "POST",
            bearer(reader.key),
            403,
            "write_action_not_allowed_for_customer",
            'Bearer realm="api", error="insufficient_scope", scope="customer:write"',
        ),
    ):
        answer = ask(edge.proxy, PATH, headers, method=method)
        assert (answer.status, answer["x-extauthz-code"], answer["www-authenticate"]) == (status, code, challenge)
        assert (answer.json["status"], answer.json["code"]) == (status, code)
        assert (answer["content-type"], answer["cache-control"]) == ("application/problem+json", "no-store")
        assert not answer.names & {"x-extauthz-organization", "x-extauthz-key"}


@pytest.mark.parametrize("who", ["customer", "nobody"])
def test_a_path_is_checked_as_the_upstream_reads_it(edge: Front, customer: Customer, who: str) -> None:
    """A path is refused, or the upstream gets the path that was checked; no path causes a 5xx."""
    for path in PATHS:
        answer = ask(edge.proxy, path, bearer(customer.key) if who == "customer" else {})
        assert answer.status in {200, 400, 401, 403}, f"{path!r}: {answer}"
        if answer.status == 200:
            granted = dict(seen(answer)).get("x-permissions", "")
            assert judged_as(answer.json["path"]) == granted, f"{path!r}: {answer}"


def test_a_plain_path_arrives_byte_for_byte(edge: Front, customer: Customer) -> None:
    """A path that has one meaning is not rewritten, nor any query."""
    for tail in ("%C3%A9?q=../..//%2f;", "a%20b", "@:~!$&'()*+,=", "", "?", "1?q=%zz", "%7Benv.HOME%7D?{env.HOME}"):
        path = f"/api/v1/customers/{tail}"
        assert ask(edge.proxy, path, bearer(customer.key)).json["path"] == path


def test_long_headers(edge: Front, customer: Customer) -> None:
    """What extauthz takes passes, 14 KB in HAProxy; more is refused by the proxy."""
    fits, more = (14_000, 17_000) if edge.name == "haproxy" else (50_000, 70_000)
    answer = ask(edge.proxy, PATH, bearer(customer.key) | {"X-Long": "h" * fits})
    assert dict(seen(answer))["x-long"] == "h" * fits
    with Client(edge.proxy.port) as client:
        client.write(request(PATH, bearer(customer.key) | {"X-Long": "h" * more}))
        assert client.read().status == (400 if edge.name == "haproxy" else 431)


def test_usage(edge: Front, reader: Customer) -> None:
    """`/usage` is answered by extauthz, uncharged, and by nothing else."""
    before = edge.upstream.requests
    answer = ask(edge.proxy, "/usage", bearer(reader.key) | {"X-Organization-Id": LIE})
    assert answer.json["organization_id"] == reader.organization
    assert ask(edge.proxy, "/usage").status == 401
    assert ask(edge.proxy, "/usage", bearer(reader.key), method="POST").status == 405
    assert edge.upstream.requests == before


def test_extauthz_hangs(site: Site, edge: Front, customer: Customer) -> None:
    """Without an answer in time no request passes: 503 within a second, and each check is sent once."""
    before, decisions = edge.upstream.requests, site.decisions()
    site.stack.extauthz.pause()
    try:
        for path in (PATH, PUBLIC):
            check_unavailable(ask(edge.proxy, path, bearer(customer.key)))
    finally:
        site.stack.extauthz.resume()
    assert edge.upstream.requests == before
    eventually(lambda: healthy(site))
    assert ask(edge.proxy, PATH, bearer(customer.key)).status == 200
    assert site.decisions() - decisions <= 3


def test_preflights(edge: Front) -> None:
    """Envoy answers a preflight of an allowed origin; Caddy's and HAProxy's files have no CORS and check it."""
    asks = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "PUT"}
    answer = ask(edge.proxy, PATH, asks, method="OPTIONS")
    assert (answer.status, answer.decision) == ((200, None) if edge.name == "envoy" else (401, "no_credentials"))
