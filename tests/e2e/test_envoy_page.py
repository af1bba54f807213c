"""The changes to Envoy's file that its page describes."""

import re
from collections.abc import Iterator
from textwrap import dedent, indent

import pytest

from extauthz.demo.ports import free_port
from tests.e2e.client import ask, bearer
from tests.e2e.edges import Change, Front, front, seen
from tests.e2e.site import Customer, Site
from tests.e2e.test_edges import PATH, check_identity
from tests.e2e.test_identity import LIE
from tests.servers.edges import FILES
from tests.servers.raw_upstream import RawUpstream, raw_upstream

ROUTES = "                      routes:\n"
PAGE = (FILES / "envoy/README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    """With a `RateLimit` of its own on every answer."""
    with raw_upstream({"RateLimit": '"own";r=1;t=1'}) as running:
        yield running


def replacing(*pairs: tuple[str, str]) -> Change:
    """Changes to the shipped file; each must find its place."""

    def change(text: str) -> str:
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        return text

    return change


def test_a_path_without_a_check(site: Site, upstream: RawUpstream, customer: Customer) -> None:
    """The page's example: no check, identity headers stripped, and the credential reaches the upstream."""
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    route = indent(dedent("  " + example.lstrip()), " " * 24)
    with front("envoy", site.stack.ports, upstream, change=replacing((ROUTES, ROUTES + route))) as edge:
        answer = ask(edge.proxy, "/healthz", bearer(customer.key) | {"X-Organization-Id": LIE})
        assert answer.decision is None
        assert LIE not in str(answer.json)
        assert ("authorization", f"Bearer {customer.key}") in seen(answer)
        assert ask(edge.proxy, PATH).decision == "no_credentials"


def test_usage_elsewhere(site: Site, upstream: RawUpstream, customer: Customer) -> None:
    """With another path for extauthz's `/usage`, the upstream's own is checked and reached."""
    moved = replacing(
        ("match: { path: /usage }", "match: { path: /my/usage }"),
        ("cluster: extauthz_usage, timeout", "cluster: extauthz_usage, prefix_rewrite: /usage, timeout"),
        ("'/usage(", "'/my/usage("),
    )
    with front("envoy", site.stack.ports, upstream, change=moved) as edge:
        told = ask(edge.proxy, "/my/usage", bearer(customer.key))
        assert told.json["organization_id"] == customer.organization
        assert ask(edge.proxy, "/usage", bearer(customer.key)).decision == "route_not_allowed"


def test_a_hostname(site: Site, upstream: RawUpstream, customer: Customer) -> None:
    """`STRICT_DNS` takes a name for extauthz, with its health check."""

    def change(text: str) -> str:
        head, name, tail = text.partition("    - name: extauthz\n")
        named = tail.replace("address: 127.0.0.1, port_value: 9001", "address: localhost, port_value: 9001")
        return f"{head}{name}      type: STRICT_DNS\n      dns_lookup_family: V4_ONLY\n{named}"

    with front("envoy", site.stack.ports, upstream, change=change) as edge:
        check_identity(ask(edge.proxy, PATH, bearer(customer.key)), customer)


def test_retries_to_the_upstream(site: Site, customer: Customer) -> None:
    """A request that Envoy sends again is checked, and charged, once."""
    gone = RawUpstream()
    gone.port = free_port()
    policy = "route: { cluster: upstream, retry_policy: { retry_on: 'connect-failure', num_retries: 3 } }"
    with front("envoy", site.stack.ports, gone, change=replacing(("route: { cluster: upstream }", policy))) as edge:
        before = site.decisions()
        assert ask(edge.proxy, PATH, bearer(customer.key)).status == 503
        assert site.decisions() - before == 1


@pytest.fixture(scope="module")
def as_shipped(site: Site, upstream: RawUpstream) -> Iterator[Front]:
    with front("envoy", site.stack.ports, upstream) as edge:
        yield edge


def test_the_upstreams_own_limits(site: Site, as_shipped: Front) -> None:
    """The upstream's `RateLimit` is kept, and that of extauthz added."""
    owner = site.customer(rate="1/h", burst=5)
    answer = ask(as_shipped.proxy, PATH, bearer(owner.key))
    assert sorted(answer.all("ratelimit"))[1] == '"own";r=1;t=1'
    assert sorted(answer.all("ratelimit"))[0].startswith('"burst";r=4')


def test_an_empty_second_credential(as_shipped: Front, customer: Customer) -> None:
    """Envoy drops an empty `Authorization` beside another."""
    answer = ask(as_shipped.proxy, PATH, [*bearer(customer.key).items(), ("Authorization", "")])
    check_identity(answer, customer)


def test_one_address_of_a_client(as_shipped: Front, customer: Customer) -> None:
    """`x-forwarded-for` has one address; of a client on Envoy's own host it may be the host's."""
    answer = ask(as_shipped.proxy, PATH, bearer(customer.key))
    addresses = dict(seen(answer))["x-forwarded-for"].split(",")
    assert len(addresses) == 1
