"""The changes that the pages of Caddy and HAProxy describe."""

from collections.abc import Iterator

import pytest

from extauthz.demo.ports import free_port
from extauthz.demo.stack import ADMIN
from tests.e2e.checks import check_unavailable
from tests.e2e.client import ask, bearer
from tests.e2e.edges import front, seen
from tests.e2e.site import Customer, Site
from tests.e2e.test_edges import PATH, check_identity
from tests.e2e.test_identity import LIE
from tests.servers.edges import FILES
from tests.servers.raw_upstream import RawUpstream, raw_upstream
from tests.servers.waiting import eventually


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    with raw_upstream() as running:
        yield running


def test_an_error_in_haproxys_script_lets_nothing_pass(site: Site, upstream: RawUpstream, customer: Customer) -> None:
    """HAProxy goes on after a script that failed; the rule behind it refuses."""
    before = upstream.requests

    def change(text: str) -> str:
        return text.replace("backend extauthz\n", "backend of_another_name\n")

    with front("haproxy", site.stack.ports, upstream, change=change) as edge:
        check_unavailable(ask(edge.proxy, PATH, bearer(customer.key)))
    assert upstream.requests == before


def test_several_servers_behind_haproxy(site: Site, upstream: RawUpstream, customer: Customer) -> None:
    """A server that refuses connections or fails its health check costs no request."""
    line = "    server extauthz1 127.0.0.1:9003 check port 9000 inter 500ms fall 1 rise 1\n"

    def change(text: str) -> str:
        assert line in text
        return text.replace(line, line + f"    server extauthz2 127.0.0.1:{free_port()}\n")

    with front("haproxy", site.stack.ports, upstream, change=change) as edge:
        for _ in range(10):
            check_identity(ask(edge.proxy, PATH, bearer(customer.key)), customer)


def test_servers_that_all_fail_their_health_check(site: Site, upstream: RawUpstream, customer: Customer) -> None:
    """HAProxy's script asks them all the same."""
    with front("haproxy", {**site.stack.ports, ADMIN: free_port()}, upstream) as edge:
        eventually(lambda: "DOWN" in edge.process.log.read_text())
        check_identity(ask(edge.proxy, PATH, bearer(customer.key)), customer)


@pytest.mark.parametrize("name", ["caddy 2.6", "caddy"])
def test_other_hosts_of_a_named_site(site: Site, upstream: RawUpstream, customer: Customer, name: str) -> None:
    """Caddy answers them itself, with nothing."""

    def change(text: str) -> str:
        return text.replace("http://:8081", "http://other.example.com:8081")

    before = upstream.requests
    with front(name, site.stack.ports, upstream, change=change) as edge:
        answer = ask(edge.proxy, PATH, bearer(customer.key))
    assert (answer.status, answer.body, upstream.requests) == (200, b"", before)


@pytest.mark.parametrize("name", ["caddy 2.6", "caddy"])
def test_forward_auth_alone(site: Site, upstream: RawUpstream, customer: Customer, name: str) -> None:
    """What Caddy's page says against `forward_auth` holds for the versions that are tested."""
    site_of_its_own = """
http://:8081 {
	bind 127.0.0.1
	forward_auth 127.0.0.1:9003 {
		uri /
		copy_headers X-Organization-Id X-Api-Key-Id X-Subject X-Permissions X-Plan
	}
	reverse_proxy 127.0.0.1:8000
}
"""
    with front(
        name, site.stack.ports, upstream, change=lambda text: text.partition("http://:8081")[0] + site_of_its_own
    ) as edge:
        forged = {"Connection": "close, X-Organization-Id", "X_Organization_Id": LIE}
        headers = dict(seen(ask(edge.proxy, PATH, forged | bearer(customer.key))))
    assert "x-organization-id" not in headers
    assert ("x_organization_id" in headers) == (name == "caddy 2.6")
    assert headers["authorization"] == f"Bearer {customer.key}"


@pytest.mark.parametrize("name", ["caddy 2.6", "caddy"])
def test_sites_of_several_parts_in_caddy(site: Site, upstream: RawUpstream, customer: Customer, name: str) -> None:
    """The example of the page: `handle` blocks inside one `route`, behind the check."""
    page = (FILES / "caddy/README.md").read_text("utf-8")
    example = next(part for part in page.split("```caddyfile\n")[1:] if "handle" in part).split("```")[0]

    def change(text: str) -> str:
        head, end, _ = text.partition("# --- end ---\n")
        return head + end + example

    with front(name, site.stack.ports, upstream, change=change) as edge:
        for path, arrives in (("/api/v1/customers/42", "/api/v1/customers/42"), ("/public/prices", "/prices")):
            assert ask(edge.proxy, path, bearer(customer.key)).json["path"] == arrives
        assert ask(edge.proxy, "/api/v1/customers/42").decision == "no_credentials"
        assert ask(edge.proxy, "/elsewhere", bearer(customer.key)).decision == "route_not_allowed"
