"""One whole stack for each process of tests: real PostgreSQL, Redis, extauthz, upstream, Envoy and nginx."""

import os
from collections.abc import Iterator

import pytest

from extauthz.app import management
from extauthz.core.management import KeyTerms
from extauthz.demo.folders import temporary_folder
from extauthz.demo.stack import Proxy
from tests.e2e import edges
from tests.e2e.site import PATIENT, ROUTES, Customer, PatientStack, Site, issue
from tests.servers.raw_upstream import raw_upstream
from tests.servers.serving import LEASING


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A stack; at its end all files that were written are searched for keys."""
    # `E2E_FAST_PATH=false make test ARGS=tests/e2e`: the same through aiohttp's own request path.
    way = {"EXTAUTHZ_FAST_PATH": os.environ.get("E2E_FAST_PATH", "true")}
    environ = {"EXTAUTHZ_CONFIG": str(ROUTES), **way, **LEASING, **PATIENT}
    with (
        temporary_folder("extauthz test ") as folder,
        PatientStack(folder, usual_ports=False, environ=environ) as stack,
    ):
        site = Site(stack)
        yield site
        site.check_secrets()


@pytest.fixture(params=["envoy", "nginx"])
def proxy(site: Site, request: pytest.FixtureRequest) -> Proxy:
    """Each of the two proxies."""
    return {proxy.name: proxy for proxy in site.stack.proxies}[request.param]


@pytest.fixture(scope="session")
def customer(site: Site) -> Customer:
    """A customer with every permission and without limits."""
    return site.customer()


@pytest.fixture(scope="session")
def reader(site: Site) -> Customer:
    """A customer that may read customers and nothing else."""
    return site.customer(permissions={"customer": frozenset({"read"})}, rate="100/s", burst=100)


@pytest.fixture(scope="session")
def bad_keys(site: Site) -> dict[str, str]:
    """Keys that must not pass, by their fault."""
    stories = ("revoked", "disabled", "expired")
    owner = site.customer()

    async def make(operator: management.Management) -> dict[str, str]:
        made = {}
        for story in stories:
            details, made[story] = await operator.keys.create(owner.organization, KeyTerms(name=story))
            if story == "revoked":
                await operator.keys.revoke(details.id, last=False)
        return made

    keys = site.manage(make)
    site.sql("UPDATE api_keys SET disabled_at = now() WHERE name = 'disabled'")
    site.sql("UPDATE api_keys SET expires_at = now() WHERE name = 'expired'")
    unknown, good = issue(), owner.key
    return keys | {
        "unknown": unknown,
        "wrong environment": issue("test"),
        "wrong check characters": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "of another system": "sk-0123456789abcdef0123",
    }


@pytest.fixture(scope="session", params=edges.NAMES)
def edge(site: Site, request: pytest.FixtureRequest) -> Iterator[edges.Front]:
    """Each proxy of `edges`, with its shipped files."""
    with raw_upstream() as upstream, edges.front(request.param, site.stack.ports, upstream) as front:
        yield front
