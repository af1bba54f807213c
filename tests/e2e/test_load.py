"""The load profile of `compose/`: its requests get through both proxies, with every decision that it aims for."""

import signal
import subprocess
import sys
from functools import partial

import pytest

from extauthz.demo.load import kinds
from tests.e2e.site import Site
from tests.servers.process import INHERITED
from tests.servers.waiting import eventually

WANTED = ("allow", "permission_denied", "rate_limited", "daily_quota_exceeded", "no_credentials", "invalid_credentials")


def start(site: Site, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "extauthz.demo.load", *(proxy.address for proxy in site.stack.proxies), *arguments],
        env=INHERITED | site.stack.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def counted(site: Site) -> dict[str, float]:
    """The number of answers of each proxy with each wanted decision."""
    metrics = site.metrics()
    names = [f"extauthz_decisions_total/{decision}/{dialect}" for decision in WANTED for dialect in ("envoy", "nginx")]
    return {name: metrics.get(name, 0.0) for name in names}


def more(site: Site, before: dict[str, float]) -> bool:
    return all(times > before[name] for name, times in counted(site).items())


def test_every_kind_of_request_is_sent(site: Site) -> None:
    """Until SIGTERM, which ends it in order."""
    before = counted(site)
    with start(site, "--rate", "200") as load:
        eventually(partial(more, site, before))
        load.send_signal(signal.SIGTERM)
        out, err = load.communicate()
        assert (load.returncode, out, err) == (0, "", "")


async def test_its_customers_may_be_there(site: Site) -> None:
    """From an earlier start, whose keys work no longer."""
    first, again = await kinds(site.stack.settings), await kinds(site.stack.settings)
    assert [kind.path for kind in first] == [kind.path for kind in again]
    keys = {kind.key for kind in again if kind.key}
    assert not keys & {kind.key for kind in first}
    assert len(keys) == 6


@pytest.mark.parametrize("rate", ["0", "-1"])
def test_a_rate_that_is_none(site: Site, rate: str) -> None:
    with start(site, f"--rate={rate}") as load:
        assert load.wait() == 2
