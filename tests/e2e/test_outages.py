"""A component is away while requests come: what clients get meanwhile, and that all recovers by itself."""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from extauthz.demo.process import Process
from extauthz.demo.stack import Proxy
from tests.e2e.checks import check_unavailable
from tests.e2e.client import Answer, ask, bearer
from tests.e2e.site import Customer, Site, healthy, issue
from tests.servers.fixtures import paused, stopped
from tests.servers.waiting import eventually

Harm = Callable[[Process], AbstractContextManager[None]]
each_harm = pytest.mark.parametrize("harm", [paused, stopped], ids=["paused", "stopped"])


def get(proxy: Proxy, key: str) -> Answer:
    """A request with a key."""
    return ask(proxy, headers=bearer(key))


@each_harm
def test_redis_away(site: Site, reader: Customer, harm: Harm) -> None:
    """`open`: identity and permissions hold, limits do not; answers are marked; one warning, one event; it recovers."""
    eventually(lambda: healthy(site))
    limited = site.customer(rate="1/h", burst=1)
    cold = site.customer()
    assert get(site.stack.proxies[0], limited.key).status == 200
    before, lines = site.metrics(), len(site.log())
    with harm(site.stack.redis):
        for proxy in site.stack.proxies * 2:
            for owner in (limited, reader, cold):
                answer = get(proxy, owner.key)
                assert (answer.status, answer.decision, answer["x-extauthz-degraded"]) == (200, "allow", "limits")
                assert answer.seen["x-organization-id"] == owner.organization
                assert not [name for name in answer.names if "ratelimit" in name]
                assert "x-extauthz-degraded" not in answer.seen
            assert ask(proxy, headers=bearer(reader.key), method="POST").decision == "permission_denied"
            assert get(proxy, issue()).decision == "invalid_credentials"
        assert site.is_ready(postgresql="ok")
        assert site.private("/readyz").json["redis"] != "ok"
        assert site.metrics()["extauthz_degraded/redis"] == 1
    eventually(lambda: healthy(site))
    assert site.metrics()["redis_down_events_total"] - before["redis_down_events_total"] == 1

    def told() -> list[tuple[str, str, int]]:
        lines_since = (line for line in site.log()[lines:] if line.get("store") == "redis")
        changes = [line for line in lines_since if line["event"] != "store_unfit"]
        return [(line["event"], line["level"], line.get("suppressed", 0)) for line in changes]

    # There is one line a second of each kind: the second may wait, or stand for both where an outage ended just before.
    eventually(lambda: sum(1 + suppressed for *_, suppressed in told()) == 2)
    assert told()[-1][:2] == ("store_up", "warning")
    for proxy in site.stack.proxies:
        answer = get(proxy, reader.key)
        assert (answer.status, answer.get("x-extauthz-degraded")) == (200, None)
        assert answer["ratelimit"].startswith('"burst";r=')
    assert site.metrics()["extauthz_degraded/redis"] == 0


def test_redis_away_where_limits_must_hold(site: Site, reader: Customer) -> None:
    """`closed`: 503 until Redis is back, never the upstream; Envoy, which drops extauthz's 5xx, sends its own."""
    envoy, nginx = site.stack.proxies
    with site.configured(RATE_LIMIT_ON_REDIS_DOWN="closed"):
        assert get(envoy, reader.key).status == 200
        with stopped(site.stack.redis):
            with site.without_upstream() as door:
                check_unavailable(get(nginx, reader.key), "limits_unavailable")
                check_unavailable(get(envoy, reader.key))
                with pytest.raises(BlockingIOError):
                    door.accept()
            assert ask(nginx, "/public/x").status == ask(envoy, "/public/x").status == 200
            assert site.private("/readyz").status == 503
        eventually(lambda: healthy(site))
        eventually(lambda: get(envoy, reader.key).status == 200)  # it has to see that extauthz is ready again
        assert get(nginx, reader.key).status == 200


@each_harm
def test_postgresql_away(site: Site, harm: Harm) -> None:
    """Keys that are cached go on, others get 503 with Retry-After, bad ones their 401; then all is back."""
    eventually(lambda: healthy(site))
    warm, cold = site.customer(rate="1/h", burst=50), site.customer()
    assert get(site.stack.proxies[0], warm.key).status == 200
    with harm(site.stack.postgres):
        for proxy in site.stack.proxies * 2:
            for key in (cold.key, issue()):
                check_unavailable(get(proxy, key))
            answer = get(proxy, warm.key)
            assert (answer.status, answer.get("x-extauthz-degraded")) == (200, None)
            assert answer.seen["x-organization-id"] == warm.organization
            assert get(proxy, issue("test")).decision == "invalid_credentials"
            assert ask(proxy).decision == "no_credentials"
        assert site.private("/readyz").json["postgresql"] != "ok"
        assert site.is_ready(redis="ok")
    eventually(lambda: healthy(site))
    for proxy in site.stack.proxies:
        assert [get(proxy, key).status for key in (cold.key, warm.key)] == [200, 200]


@pytest.mark.parametrize("harm", ["paused", "killed"])
def test_extauthz_away(site: Site, reader: Customer, harm: str) -> None:
    """Without an answer no request passes: 503 on both, also for public paths; afterwards requests pass again."""
    extauthz = site.stack.extauthz
    assert [get(proxy, reader.key).status for proxy in site.stack.proxies] == [200, 200]
    try:
        if harm == "paused":
            extauthz.pause()
        else:
            site.check_secrets()
            extauthz.kill()
        with site.without_upstream() as door:
            for proxy in site.stack.proxies:
                check_unavailable(get(proxy, reader.key))
                check_unavailable(ask(proxy, "/public/x"))
            with pytest.raises(BlockingIOError):
                door.accept()
    finally:
        extauthz.resume() if harm == "paused" else extauthz.start()
        eventually(lambda: healthy(site))
    for proxy in site.stack.proxies:
        assert [get(proxy, reader.key).status for _ in range(3)] == [200, 200, 200]


def test_a_quiet_restart(site: Site, reader: Customer) -> None:
    """After SIGTERM extauthz answers requests while it drains, and makes its proxies close their connections."""
    extauthz = site.stack.extauthz
    site.check_secrets()
    statuses = []
    try:
        os.kill(extauthz.pid, signal.SIGTERM)
        eventually(lambda: not site.is_ready())
        statuses = [get(proxy, reader.key).status for proxy in site.stack.proxies]
    finally:
        extauthz.stop()
        extauthz.start()
        eventually(lambda: healthy(site))
    assert statuses == [200, 200]


def test_the_upstream_away(site: Site, reader: Customer) -> None:
    """Its absence is the proxies' own 502 or 503, without a code of extauthz; refusals are as before."""
    with site.without_upstream() as door:
        door.close()
        for proxy in site.stack.proxies:
            answer = get(proxy, reader.key)
            assert answer.status in {502, 503}
            assert "x-extauthz-code" not in answer.names
            assert ask(proxy).decision == "no_credentials"
