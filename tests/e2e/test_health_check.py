"""Envoy's health check of extauthz, as shipped."""

import json
from urllib.request import urlopen

from extauthz.demo.stack import ENVOY_ADMIN
from tests.e2e.client import ask, bearer
from tests.e2e.site import PATIENCE, Customer, Site, healthy
from tests.servers.fixtures import stopped
from tests.servers.waiting import eventually

CLUSTERS = ("extauthz", "extauthz_usage")


def failing(site: Site) -> set[str]:
    """The clusters whose endpoint fails its health check."""
    address = f"http://127.0.0.1:{site.stack.ports[ENVOY_ADMIN]}/clusters?format=json"
    with urlopen(address, timeout=PATIENCE) as answer:
        told = json.load(answer)
    return {
        cluster["name"]
        for cluster in told["cluster_statuses"]
        for host in cluster["host_statuses"]
        if host["health_status"].get("failed_active_health_check")
    }


def test_endpoints_leave_and_return_without_traffic(site: Site, customer: Customer) -> None:
    """Envoy takes an endpoint out when `/readyz` is 503 or refused, and back in, also while no request comes.

    A single endpoint is asked all the same.
    """
    envoy, extauthz = site.stack.proxies[0], site.stack.extauthz
    eventually(lambda: not failing(site))
    site.check_secrets()  # a start empties the log
    with stopped(site.stack.redis):
        extauthz.kill()
        try:
            eventually(lambda: failing(site) == set(CLUSTERS))
        finally:
            extauthz.start()
            extauthz.wait_ready(lambda: site.private("/livez").status == 200)
        assert site.private("/readyz").status == 503
        assert failing(site) == set(CLUSTERS)
        eventually(lambda: ask(envoy, "/public/prices").status == 200)
    eventually(lambda: healthy(site) and not failing(site))
    assert ask(envoy, headers=bearer(customer.key)).status == 200
