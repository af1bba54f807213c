"""`extauthz doctor --proxy`: the proxies with the files that users copy pass."""

from pathlib import Path

import pytest

from extauthz.demo.stack import Proxy
from tests.e2e.edges import Front
from tests.e2e.site import Site
from tests.servers.shell import Here

SEEN = {"proxy reachable", "proxy key", "proxy headers", "proxy paths"}


@pytest.fixture
def shell(site: Site, tmp_path: Path) -> Here:
    return Here(tmp_path, dict(site.stack.environ))


def all_well(shell: Here, address: str) -> None:
    rows = {row["check"]: row for row in shell.json("doctor", "--proxy", f"http://{address}/api/v1/customers/42")}
    assert rows.keys() >= SEEN | {"service", "database reachable", "redis reachable"}
    assert all(row["ok"] for row in rows.values())
    assert not any(rows[check]["remedy"] for check in SEEN)


def test_envoy_and_nginx_pass(shell: Here, proxy: Proxy) -> None:
    all_well(shell, proxy.address)


def test_the_other_proxies_pass(shell: Here, edge: Front) -> None:
    all_well(shell, edge.proxy.address)


def test_a_proxy_that_does_not_ask(shell: Here, site: Site) -> None:
    """The upstream itself, which nothing protects."""
    upstream = f"http://127.0.0.1:{site.stack.ports[8000]}/"
    done = shell.run("doctor", "--proxy", upstream)
    assert (done.returncode, done.stderr.endswith(" checks failed: proxy reachable\n")) == (1, True)
    assert "extauthz was not asked (200)" in " ".join(done.stdout.split())
