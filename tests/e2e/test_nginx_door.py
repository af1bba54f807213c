"""nginx as shipped: its requests to extauthz, and the answers of extauthz, the upstream and nginx to the client."""

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from extauthz.demo.folders import temporary_folder
from extauthz.demo.ports import free_port
from extauthz.demo.proxies import Nginx
from extauthz.demo.stack import NGINX_DOOR, Proxy
from tests.e2e.client import Client, ask, bearer
from tests.e2e.nginx_blocks import Running, running
from tests.e2e.site import Customer, Site
from tests.servers.distribution import distribution_server

LIE = "lie-0d1c"
PATH = "/api/v1/customers/42"
MEGABYTE = 1_000_000
TOLD = {"authorization", "host", "traceparent", "x-original-host", "x-original-method", "x-original-uri"}
TOLD |= {"x-real-ip", "x-request-id"}
BLOCKS = {
    "one": "location / { include extauthz.conf; proxy_pass http://app; }",
    "large": "location / { include extauthz.conf; client_max_body_size 10m; proxy_pass http://app; }",
    "intercepting": "location / { include extauthz.conf; proxy_intercept_errors on; proxy_pass http://app; }",
    "denying": "location / { include extauthz.conf; deny all; proxy_pass http://app; }",
    "basic": "location / { include extauthz.conf; auth_basic theirs; auth_basic_user_file no; proxy_pass http://app; }",
    "hiding": "location / { include extauthz.conf; proxy_hide_header RateLimit; proxy_pass http://app; }",
    "files": "location / { include extauthz.conf; root html; }",
    "two": 'location / { include extauthz.conf; try_files "" @app; } '
    "location @app { include extauthz_checked.conf; proxy_intercept_errors on; proxy_pass http://app; }",
    "parts": "location / { include extauthz.conf; proxy_pass http://app; } location = /open { include "
    "extauthz_upstream.conf; ssi on; ssi_types application/json; proxy_pass http://app; }",
    "behind": "set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For; "
    "location / { include extauthz.conf; proxy_pass http://app; }",
    "named without a check": "location / { return 404; } error_page 404 = @app; "
    "location @app { include extauthz_checked.conf; proxy_pass http://app; }",
}
CHANGES = {
    "https://app.example.com $http_origin": "~. $http_origin",
    "ignore_invalid_headers on": "ignore_invalid_headers off",
}


API = "location /api/ { include extauthz.conf; proxy_pass http://app; }"
CODES = "401 403 404 500 502 503 504"
HOSTILE = [
    f"proxy_intercept_errors on; recursive_error_pages on; {page} location @page {{ proxy_pass http://app; }} {API}"
    for page in (
        f"error_page {CODES} =200 @page;",
        f"error_page {CODES} = @page;",
        f"error_page {CODES} =200 /index.html;",
        f"error_page {CODES} /index.html;",
        f"error_page {CODES} =302 http://127.0.0.1/;",
    )
]
# An HTTP/2 client, for one that speaks HTTP/1.
FRONT = """
error_log stderr; pid nginx.pid; events {}
http {
    access_log off; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server { listen 127.0.0.1:8080; location / { grpc_pass grpc://127.0.0.1:8000; } }
}
"""


@pytest.fixture(scope="module", params=["wheel", "distribution"])
def program(request: pytest.FixtureRequest) -> Path | None:
    """nginx of the wheel (None) and of the distribution."""
    return distribution_server("nginx") if request.param == "distribution" else None


@pytest.fixture(scope="module")
def nginx(site: Site, program: Path | None) -> Iterator[Running]:
    """All blocks; any origin is allowed, and header names of any form pass."""
    with (
        temporary_folder("extauthz test ") as folder,
        running(site, folder, [*BLOCKS.values()], program=program, changes=CHANGES) as nginx,
    ):
        nginx.behind.seen.clear()
        yield nginx


def at(nginx: Running, name: str) -> Proxy:
    """The server with the block of that name."""
    return nginx.proxy([*BLOCKS].index(name))


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_the_upstreams_own_refusals(nginx: Running, customer: Customer, name: str, status: int) -> None:
    """After an allow a refusal of the upstream's passes as it is; where it is intercepted, by nginx's own page."""
    path = f"{PATH}?status={status}&WWW-Authenticate=Theirs"
    answer = ask(at(nginx, name), path, bearer(customer.key))
    assert (answer.status, answer.decision, answer.get("x-extauthz-code")) == (status, "allow", None)
    assert answer.get("www-authenticate") == "Theirs" or (name == "two" and status != 401)
    if name == "one":
        assert answer.json["protocol"] == "http"


@pytest.mark.parametrize("status", [401, 403])
def test_intercepted_refusals(nginx: Running, customer: Customer, status: int) -> None:
    """`proxy_intercept_errors` in the protected location keeps the upstream's status, and says nothing of extauthz."""
    path = f"{PATH}?status={status}&WWW-Authenticate=Theirs"
    answer = ask(at(nginx, "intercepting"), path, bearer(customer.key))
    assert (answer.status, answer.decision, answer.get("x-extauthz-code")) == (status, "allow", None)
    assert answer["content-type"].startswith("text/html")
    assert answer.get("www-authenticate") == ("Theirs" if status == 401 else None)


def test_nginxs_own_refusals(nginx: Running, customer: Customer) -> None:
    """A `deny`, a `auth_basic` or a folder that nginx does not list keep nginx's own 401 and 403, key or no key."""
    for name, status in (("denying", 403), ("basic", 401)):
        for headers in ({}, bearer(customer.key)):
            answer = ask(at(nginx, name), PATH, headers)
            assert (answer.status, answer.get("x-extauthz-code"), answer.decision) == (status, None, None)
            assert answer["content-type"].startswith("text/html")
            assert answer.get("www-authenticate") == ('Basic realm="theirs"' if status == 401 else None)
    answer = ask(at(nginx, "files"), "/api/v1/customers/", bearer(customer.key))
    assert (answer.status, answer.decision, answer.get("x-extauthz-code")) == (403, "allow", None)


def test_uploads(site: Site, nginx: Running, customer: Customer) -> None:
    """The location's limit alone counts: two megabytes pass where it allows ten; else 413 without a check."""
    body = b"u" * 2 * MEGABYTE
    answer = ask(at(nginx, "large"), PATH, bearer(customer.key), method="POST", body=body)
    assert (answer.status, answer.decision) == (200, "allow")
    before = site.decisions()
    answer = ask(at(nginx, "one"), PATH, bearer(customer.key), method="POST", body=body)
    assert (answer.status, answer.decision, site.decisions() - before) == (413, None, 0)


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example.com",
        "http://localhost:5173",
        "capacitor://localhost",
        "app://-",
        "null",
        "chrome-extension://x",
    ],
)
def test_origins_of_any_scheme(nginx: Running, customer: Customer, origin: str) -> None:
    """An origin that is allowed gets its preflight answered and may read answers, whatever its scheme."""
    for asked in ("PUT", "patch", "G~T"):
        asks = {"Origin": origin, "Access-Control-Request-Method": asked}
        answer = ask(at(nginx, "one"), PATH, asks, method="OPTIONS")
        assert (answer.status, answer["access-control-allow-origin"], answer.decision) == (204, origin, None)
    answer = ask(at(nginx, "one"), PATH, {"Origin": origin} | bearer(customer.key))
    assert answer["access-control-allow-origin"] == origin


@pytest.mark.parametrize("changed", ["~. $http_origin", "default *"])
def test_no_preflight_without_an_origin(site: Site, program: Path | None, changed: str) -> None:
    """OPTIONS without Origin, or without the method that is asked for, is checked, though every origin be allowed."""
    changes = {"https://app.example.com $http_origin": changed}
    with (
        temporary_folder("extauthz test ") as folder,
        running(site, folder, [BLOCKS["one"]], program=program, changes=changes) as nginx,
    ):
        for headers in (
            {"Access-Control-Request-Method": "PUT"},
            {"Access-Control-Request-Method": "PUT https://a.example.com"},
            {"Origin": "", "Access-Control-Request-Method": "PUT"},
            {"Origin": "https://a.example.com"},
            {"Origin": "https://a.example.com", "Access-Control-Request-Method": ""},
        ):
            answer = ask(nginx.proxy(0), PATH, headers, method="OPTIONS")
            assert (answer.status, answer.decision) == (401, "no_credentials"), headers


def test_a_part_of_a_page(nginx: Running, customer: Customer) -> None:
    """nginx checks no subrequest: a protected part of a page that is open to all is left out of it."""
    nginx.behind.seen.clear()
    part = {"X-Part": f"<!--#include virtual='{PATH}' -->"}
    answer = ask(at(nginx, "parts"), "/open", part | {"Connection": "close"} | bearer(customer.key))
    assert (answer.status, len(nginx.behind.seen)) == (200, 1)
    assert b"include" not in answer.body
    assert PATH not in nginx.behind.seen[0].values(":target")


def test_nothing_comes_to_a_checked_location_without_a_check(nginx: Running, customer: Customer) -> None:
    """`extauthz_checked.conf` refuses a request that comes another way, with a key or none."""
    nginx.behind.seen.clear()
    for headers in ({}, bearer(customer.key), {"X-Extauthz-Decision": "allow"}):
        answer = ask(at(nginx, "named without a check"), PATH, headers)
        assert (answer.status, answer.decision) == (500, None)
    assert nginx.behind.seen == []


def test_the_name_of_the_check(nginx: Running) -> None:
    """No client can ask for it."""
    for target in ("_extauthz", "/_extauthz", "http://x/_extauthz", "%5fextauthz"):
        assert ask(at(nginx, "one"), target).status in {400, 401, 403}


def test_behind_another_proxy(nginx: Running, customer: Customer) -> None:
    """With `real_ip_header` the address is the client's, for the upstream and for limits by address."""
    nginx.behind.seen.clear()
    ask(at(nginx, "behind"), PATH, bearer(customer.key) | {"X-Forwarded-For": "203.0.113.7"})
    assert nginx.behind.seen[0].values("X-Real-IP") == nginx.behind.seen[0].values("X-Forwarded-For") == ["203.0.113.7"]
    first, second = (f"203.0.113.{(8, 9)[n] + 2 * (nginx.nginx.program is None)}" for n in (0, 1))
    logins = [(first, 200), (first, 200), (first, 429), (second, 200)]
    assert [
        ask(at(nginx, "behind"), "/public/login", {"X-Forwarded-For": address}).status for address, _ in logins
    ] == [status for _, status in logins]


def test_invalid_names(nginx: Running, customer: Customer) -> None:
    """Why `ignore_invalid_headers` stays on: without it a dot passes, which some take for an underscore."""
    nginx.behind.seen.clear()
    ask(at(nginx, "one"), PATH, bearer(customer.key) | {"X.Organization.Id": LIE})
    assert LIE in nginx.behind.seen[0].text()


def test_the_credential_may_be_handed_on(site: Site, program: Path | None, customer: Customer) -> None:
    """Without the line that removes it, it passes."""
    line = {'proxy_set_header Authorization "";': ""}
    with (
        temporary_folder("extauthz test ") as folder,
        running(site, folder, [BLOCKS["one"]], program=program, changes=line) as nginx,
    ):
        assert ask(nginx.proxy(0), PATH, bearer(customer.key)).status == 200
        assert nginx.behind.seen[0].values("Authorization") == [f"Bearer {customer.key}"]


def test_the_upstreams_own_rate_limits(nginx: Running, reader: Customer) -> None:
    """Both are sent, unless the upstream's are hidden."""
    for name, count in (("one", 2), ("hiding", 1)):
        answer = ask(at(nginx, name), f"{PATH}?RateLimit=theirs", bearer(reader.key))
        assert len(answer.all("ratelimit")) == count


class Asked:
    """A server in place of extauthz that allows everything, or hangs, and records its requests."""

    def __init__(self) -> None:
        self.connections = 0
        self.questions: list[list[str]] = []
        self.answers = True


@contextmanager
def in_place_of_extauthz() -> Iterator[tuple[Asked, int]]:
    """What it was asked, and its port."""
    asked = Asked()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.connections += 1
            lines: list[str] = []
            for line in self.rfile:
                lines.append(line.decode("latin-1").strip())
                if lines[-1]:
                    continue
                asked.questions.append(lines)
                lines = []
                if asked.answers:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Extauthz-Decision: allow\r\n\r\n")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield asked, server.server_address[1]
        server.shutdown()


def test_what_extauthz_is_asked(site: Site, program: Path | None) -> None:
    """The listed headers alone, never a body, on a connection that is kept; a check that hangs is not repeated."""
    around = "proxy_cache responses; proxy_cache_valid 1m; proxy_ignore_headers Cache-Control; proxy_set_body text;"
    blocks, door = [f"{around} {BLOCKS['large']}"], site.stack.ports[NGINX_DOOR]
    with (
        in_place_of_extauthz() as (asked, port),
        temporary_folder("extauthz test ") as folder,
        running(site, folder, blocks, program=program, changes={f":{door} ": f":{port} "}, patient=False) as nginx,
    ):
        forged = dict.fromkeys(("X-Original-URI", "X-Original-URL", "X-Real-IP", "X-Request-ID", "Cookie"), LIE)
        headers = {"Authorization": "Bearer k", "traceparent": "00-1-2-01", **forged}
        for _ in range(3):
            assert ask(nginx.proxy(0), f"{PATH}?a=b", headers, method="POST", body=b"x" * 100_000).status == 200
        for line, *pairs in asked.questions:
            assert line == "GET / HTTP/1.1"
            told = dict(pair.lower().split(": ", 1) for pair in pairs if pair)
            assert told.keys() == TOLD
            assert (told["x-original-uri"], told["x-original-method"]) == (f"{PATH}?a=b", "post")
            assert (told["x-original-host"], told["x-real-ip"]) == ("api.example.com", "127.0.0.1")
            assert len(told["x-request-id"]) == 32
        assert (len(asked.questions), asked.connections) == (3, 1)
        asked.answers = False
        with Client(nginx.ports[0]) as client:
            before = time.monotonic()
            answer = client.ask(PATH, {"Authorization": "Bearer k"})
            assert (answer.status, answer.get("connection"), client.at_end()) == (503, "close", True)
        assert 0.15 < time.monotonic() - before < 5
        assert len(asked.questions) == 4
        assert "auth request unexpected status: 504" in nginx.log


def test_over_http_2(site: Site, program: Path | None, customer: Customer) -> None:
    """A client that speaks HTTP/2 is checked alike, and its forged headers are dropped alike."""
    door = free_port()
    front = FRONT.replace("127.0.0.1:8000", f"127.0.0.1:{door}").replace(":8080", f":{(port := free_port())}")
    block = f"listen 127.0.0.1:{door} http2; include extauthz_server.conf; {BLOCKS['one']}"
    with (
        temporary_folder("extauthz test ") as folder,
        running(site, folder, [block], program=program) as nginx,
        Nginx(folder / "front", {"nginx.conf": front}, port=port),
    ):
        assert ask(Proxy("front", port)).decision == "no_credentials"
        answer = ask(Proxy("front", port), PATH, bearer(customer.key) | {"X-Organization-Id": LIE})
        assert (answer.status, answer.decision) == (200, "allow")
        assert nginx.behind.seen[0].values("X-Organization-Id") == [customer.organization]
        assert nginx.behind.seen[0].values("Authorization") == []


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
def test_error_pages_do_not_affect_the_check(site: Site, program: Path | None, away: bool) -> None:
    """An `error_page` of the server does not apply to extauthz's answers: no error page makes an allow."""
    door = site.stack.ports[NGINX_DOOR]
    with (
        temporary_folder("extauthz test ") as folder,
        running(site, folder, HOSTILE, program=program, changes={f":{door} ": f":{9 if away else door} "}) as nginx,
    ):
        for number in range(len(HOSTILE)):
            answer = ask(nginx.proxy(number), PATH)
            expected = (503, "authentication_unavailable") if away else (401, "no_credentials")
            assert (answer.status, answer.decision) == expected, HOSTILE[number]
            assert answer.json["code"] == expected[1]
        assert nginx.behind.seen == []


def test_what_is_logged_of_refusals(nginx: Running) -> None:
    """A denial writes nothing to the error log, and keeps the client's connection."""
    log = nginx.nginx.log.with_name("error.log")
    before = log.read_text()
    with Client(nginx.ports[0]) as client:
        for _ in range(2):
            assert client.ask(PATH).decision == "no_credentials"
    assert log.read_text() == before
