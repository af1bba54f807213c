"""The shipped files of Caddy, HAProxy and Envoy: valid, closed when a part is away, and changed as their pages say."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from extauthz.demo.folders import binary
from extauthz.demo.ports import free_port
from extauthz.demo.stack import ADMIN, ENVOY_DOOR, FORWARD_DOOR, USAGE
from tests.e2e.checks import check_unavailable
from tests.e2e.client import Answer, Client, ask, bearer, request
from tests.e2e.edges import NAMES, Front, front, seen
from tests.e2e.site import Customer, Site
from tests.e2e.test_edges import PATH, PUBLIC, check_identity
from tests.e2e.test_identity import LIE
from tests.servers.distribution import distribution_server
from tests.servers.edges import FILES, SCRIPT, caddy_from_its_wheel
from tests.servers.raw_upstream import RawUpstream, raw_upstream

WEBSOCKET = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x" * 22 + "=="}
UPGRADES = "                use_remote_address: true\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    with raw_upstream() as running:
        yield running


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """The output of a command."""
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("of", ["distribution", "wheel"])
def test_the_caddyfile_is_valid(of: str) -> None:
    """Both versions take it, without a warning about its format or a directive."""
    caddy = distribution_server("caddy") if of == "distribution" else caddy_from_its_wheel()
    file = FILES / "caddy/Caddyfile"
    for command in ("validate", "adapt"):
        done = run(caddy, command, "--config", file, "--adapter", "caddyfile")
        assert done.returncode == 0, done.stderr
        assert '"warn"' not in done.stderr


def test_the_haproxy_file_is_valid(tmp_path: Path) -> None:
    """`haproxy -c` has nothing to say against it."""
    text = (FILES / "haproxy/haproxy.cfg").read_text("utf-8")
    script = tmp_path / "extauthz.lua"
    script.write_text((FILES / "haproxy/extauthz.lua").read_text("utf-8"))
    file = tmp_path / "haproxy.cfg"
    file.write_text(text.replace(SCRIPT, f'"{script}"'))
    done = run(distribution_server("haproxy"), "-c", "-f", file)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stdout + done.stderr


def test_the_envoy_file_is_valid() -> None:
    """Envoy takes it as it is."""
    done = run(binary("envoy", "_bin/envoy"), "--mode", "validate", "-c", FILES / "envoy/http.yaml", "-l", "warn")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_without_extauthz(site: Site, upstream: RawUpstream, customer: Customer, name: str) -> None:
    """Without extauthz every path is 503, public ones too, and the upstream is not asked."""
    nowhere = {door: free_port() for door in (ENVOY_DOOR, FORWARD_DOOR, USAGE, ADMIN)}
    before = upstream.requests
    with front(name, site.stack.ports | nowhere, upstream) as closed:
        for path in (PATH, PUBLIC):
            check_unavailable(ask(closed.proxy, path, bearer(customer.key)))
        assert ask(closed.proxy, "/usage", bearer(customer.key)).status == 503
    assert upstream.requests == before


@pytest.mark.parametrize("name", NAMES)
def test_without_the_upstream(site: Site, upstream: RawUpstream, customer: Customer, name: str) -> None:
    """Without the upstream the answer is the proxy's own 502 or 503, different from that without extauthz."""
    gone = RawUpstream()
    gone.port = free_port()
    with front(name, site.stack.ports, gone) as edge:
        answer = ask(edge.proxy, PATH, bearer(customer.key))
        assert answer.status in {502, 503}
        assert answer.decision in {None, "allow"}
        assert ask(edge.proxy, PATH).decision == "no_credentials"


def upgraded(edge: Front, headers: dict[str, str], path: str = PATH) -> tuple[Answer, bytes]:
    """The answer to a request for an upgrade, and what came back of three bytes."""
    with Client(edge.proxy.port) as client:
        client.write(request(path, headers))
        line = client._stream.readline()
        if b" 101 " not in line:
            return Answer(int(line.split()[1]), (), b""), b""
        while client._stream.readline() not in {b"\r\n", b""}:
            pass
        told = client._stream.readline()
        client.write(b"\x81\x00!")
        return Answer(200, (), told), client._stream.read(3)


@pytest.mark.parametrize("name", NAMES)
def test_websockets(site: Site, upstream: RawUpstream, customer: Customer, name: str) -> None:
    """With a key a WebSocket passes, with its identity; without one it is 401. Envoy needs the line of its page."""

    def change(text: str) -> str:
        if name != "envoy":
            return text
        assert UPGRADES in text
        return text.replace(UPGRADES, UPGRADES + "                upgrade_configs: [{ upgrade_type: websocket }]\n")

    with front(name, site.stack.ports, upstream, change=change) as edge:
        for connection in ("Upgrade", "keep-alive, Upgrade", "upgrade, X-Organization-Id"):
            if name == "envoy" and "X-" in connection:
                continue
            forged = {**WEBSOCKET, "Connection": connection, "X-Organization-Id": LIE}
            answer, echo = upgraded(edge, forged | bearer(customer.key))
            check_identity(answer, customer)
            assert "x-" not in dict(seen(answer))["connection"].lower()
            assert echo == b"\x81\x00!"
        assert upgraded(edge, WEBSOCKET)[0].status == 401


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c", "TLS/1.0", "foo"])
def test_other_upgrades(edge: Front, customer: Customer, upgrade: str) -> None:
    """An upgrade to another protocol, through which unchecked requests could pass, does not reach the upstream."""
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": upgrade, "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    answer = ask(edge.proxy, PATH, headers | bearer(customer.key))
    if answer.status == 200:
        assert not {"upgrade", "connection"} & {name for name, value in seen(answer) if value != "keep-alive"}
    else:
        assert (edge.name, answer.status, answer.decision) in {("envoy", 403, None), ("haproxy", 400, None)}


@pytest.mark.parametrize("pair", [("websocket", "h2c"), ("h2c", "websocket"), ("websocket", "websocket, h2c")])
def test_two_upgrades(edge: Front, customer: Customer, pair: tuple[str, str]) -> None:
    """Beside a WebSocket no other protocol reaches the upstream, which might choose that one."""
    headers = [("Connection", "Upgrade, HTTP2-Settings"), *(("Upgrade", value) for value in pair)]
    with Client(edge.proxy.port) as client:
        client.write(request(PATH, [*headers, ("HTTP2-Settings", "AAMAAABkAAQAAP__"), *bearer(customer.key).items()]))
        line = client._stream.readline()
        told = client._stream.read1().decode()
    assert b" 101 " in line or b" 200 " in line or b" 400 " in line or b" 403 " in line
    assert "h2c" not in told
    assert told.count('["upgrade"') <= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("host", ["admin.example.org,x", "x,admin.example.org", "a.example.org, b.example.org", ",x"])
def test_lists_of_hosts(site: Site, upstream: RawUpstream, name: str, host: str) -> None:
    """A list in `Host` is checked as the text that the upstream gets, never as one of its parts."""
    with raw_upstream({"x-organization-id": "o", "x-plan": "p"}) as door:
        ports = {**site.stack.ports, FORWARD_DOOR: door.port, ENVOY_DOOR: door.port}
        with front(name, ports, upstream) as edge, Client(edge.proxy.port) as client:
            client.write(f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = client.read()
    if answer.status != 400:
        assert door.last is not None
        judged = door.last.value("host" if name == "envoy" else "x-forwarded-host")
        assert ("host", judged) in seen(answer)


@pytest.mark.parametrize("target", [PATH, "api.example.com:80", "api.example.com"])
def test_connect(edge: Front, customer: Customer, target: str) -> None:
    """A CONNECT request does not reach the upstream: its target is not a path, and Caddy would check `/` instead."""
    before = edge.upstream.requests
    answer = ask(edge.proxy, target, bearer(customer.key), method="CONNECT")
    assert answer.status in {400, 403, 404, 405, 501}
    assert edge.upstream.requests == before


def test_trailers(edge: Front, customer: Customer) -> None:
    """Fields behind a chunked body do not reach the upstream; HAProxy 2.6 passes them, and its page says so."""
    chunks = b"2\r\nhi\r\n0\r\nX-Organization-Id: " + LIE.encode() + b"\r\n\r\n"
    headers = bearer(customer.key) | {"Transfer-Encoding": "chunked", "Trailer": "X-Organization-Id"}
    with Client(edge.proxy.port) as client:
        client.write(request(PATH, headers, method="POST") + chunks)
        answer = client.read()
    assert answer.json["body_bytes"] == 2
    assert (LIE in answer.json["trailers"]) == (edge.name == "haproxy")


@pytest.mark.parametrize("name", NAMES)
def test_subjects_of_any_text(site: Site, upstream: RawUpstream, name: str) -> None:
    """A subject in place of a key arrives as it is, also where it looks like a placeholder of the proxy."""
    subject = "auth0|{env.PATH}%[src]%REQ(:path)% a/b@c"
    removed = ("authorization", "x-api-key-id")
    said = {"x-organization-id": "o", "x-subject": subject, "x-permissions": "customer:read", "x-plan": "p"}
    emptied = {"x-envoy-auth-headers-to-remove": ",".join(removed)} if name == "envoy" else dict.fromkeys(removed, "")
    with raw_upstream(said | emptied) as door:
        ports = {**site.stack.ports, FORWARD_DOOR: door.port, ENVOY_DOOR: door.port}
        with front(name, ports, upstream) as edge:
            answer = ask(edge.proxy, PATH, {**bearer("ey.ey.x"), "X-Api-Key-Id": LIE, "X-Subject": LIE})
    assert {header: value for header, value in seen(answer) if header in (*said, *removed)} == said
    assert LIE not in str(answer.json)


@pytest.mark.parametrize("name", NAMES)
def test_values_that_no_header_may_hold(site: Site, upstream: RawUpstream, name: str) -> None:
    """An allow with a control character in it lets nothing pass."""
    before = upstream.requests
    with raw_upstream({"x-organization-id": "o", "x-plan": "a\x01b"}) as door:
        ports = {**site.stack.ports, FORWARD_DOOR: door.port, ENVOY_DOOR: door.port}
        with front(name, ports, upstream) as edge:
            assert ask(edge.proxy, PATH).status in {502, 503}
    assert upstream.requests == before


def test_another_proxy_before_envoy(site: Site, upstream: RawUpstream, customer: Customer) -> None:
    """With the changes of its page the first proxy's `x-forwarded-for` is kept, and no other such header."""

    def change(text: str) -> str:
        for old, new in (
            (
                "- remove_on_match: { key_matcher: { prefix: x-forwarded- } }",
                '- remove_on_match: { key_matcher: { safe_regex: { regex: "x-forwarded-[^f].*" } } }',
            ),
            (UPGRADES, UPGRADES + "                xff_num_trusted_hops: 1\n"),
        ):
            assert old in text
            text = text.replace(old, new)
        return text

    forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": LIE, "X-Forwarded-Prefix": LIE}
    with front("envoy", site.stack.ports, upstream, change=change) as edge:
        answer = ask(edge.proxy, PATH, forged | bearer(customer.key))
        check_identity(answer, customer)
        assert dict(seen(answer))["x-forwarded-for"].startswith("192.0.2.1,")
