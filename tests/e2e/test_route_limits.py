"""Limits of a key, inside its organization's, and of a route: by client address, in shadow, or never to fit."""

import time
from itertools import count

import pytest

from extauthz.app import management
from extauthz.core.limits import Limits, Rate
from extauthz.core.management import KeyTerms
from extauthz.demo.stack import Proxy
from tests.e2e.checks import LIMIT_HEADERS, check_refused, get, usage
from tests.e2e.client import Answer, ask, bearer
from tests.e2e.site import Customer, Site
from tests.servers.waiting import eventually

LOGIN = "/public/login"  # burst 2, 1/h
BETA = "/api/v1/beta/1"  # in shadow
REPORT = "/api/v1/reports/1"  # costs 10
HOUR = 3600

_addresses = (f"127.9.{number // 250}.{number % 250 + 1}" for number in count())


@pytest.fixture
def address() -> str:
    """A loopback address that no request has come from yet."""
    return next(_addresses)


def check_untold(answer: Answer) -> None:
    """Allowed, without limit headers."""
    assert (answer.status, answer.decision) == (200, "allow")
    assert not answer.names & {*LIMIT_HEADERS, "retry-after", "x-extauthz-degraded"}


def test_limits_of_a_key(site: Site, proxy: Proxy) -> None:
    """They refuse while the organization has tokens left for its other keys, and have names of their own."""
    owner = site.customer(rate="1/h", burst=10, daily_quota=100, own=Limits(Rate(1, HOUR), 2, 50))
    first, second, third = (get(proxy, owner) for _ in range(3))
    assert [first.status, second.status] == [200, 200]
    assert first["ratelimit-policy"].startswith('"burst";q=10;w=36000, "daily";q=100;w=86400, "key-burst";q=2;w=7200, ')
    assert second["ratelimit"].startswith('"burst";r=8;t=3600, "daily";r=98;')
    assert '"key-burst";r=0;t=3600, "key-daily";r=48;t=' in second["ratelimit"]
    assert (second["x-ratelimit-limit"], second["x-ratelimit-remaining"]) == ("2", "0")
    check_refused(third, "rate_limited", "key-burst")
    assert '"burst";r=8;' in third["ratelimit"]

    async def another(operator: management.Management) -> str:
        return (await operator.keys.create(owner.organization, KeyTerms()))[1]

    assert ask(proxy, headers=bearer(site.manage(another)))["ratelimit"].startswith('"burst";r=7;')


def test_quotas_of_a_key(site: Site, proxy: Proxy) -> None:
    """A key's daily quota is used up while its organization's is not."""
    owner = site.customer(daily_quota=10, own=Limits(daily_quota=1, monthly_quota=5))
    allowed, refused = get(proxy, owner), get(proxy, owner)
    assert allowed.status == 200
    check_refused(refused, "daily_quota_exceeded", "key-daily")
    assert (refused["x-ratelimit-limit"], '"daily";r=9;' in refused["ratelimit"]) == ("1", True)


@pytest.mark.parametrize("whose", ["organization", "key"])
def test_a_cost_above_the_burst(site: Site, proxy: Proxy, whose: str) -> None:
    """A route that costs more than a bucket holds: 403 without Retry-After, and nothing is taken."""
    small, large = Limits(Rate(1, HOUR), 9), Limits(Rate(1, HOUR), 10)
    limits, own = (small, large) if whose == "organization" else (large, small)
    owner = site.customer(rate="1/h", burst=limits.burst, own=own)
    answer = get(proxy, owner, REPORT)
    assert (answer.status, answer.decision, answer["x-extauthz-code"]) == (
        403,
        "cost_exceeds_limit",
        "cost_exceeds_limit",
    )
    assert not answer.names & {*LIMIT_HEADERS, "retry-after"}
    assert get(proxy, owner)["ratelimit"].startswith(f'"burst";r={(limits.burst or 0) - 1};')


def test_a_route_in_shadow(site: Site, proxy: Proxy) -> None:
    """It is charged as before, refuses nothing and sends no limit headers; its refusals are only counted."""
    # The bucket binds whatever the hour is, because its next token is farther away than midnight.
    owner = site.customer(rate="0.5/d", burst=2, daily_quota=2)
    name = "extauthz_shadow_decisions_total/rate_limited"
    before = site.metrics()
    for _ in range(4):
        answer = get(proxy, owner, BETA)
        check_untold(answer)
        assert answer.seen["x-organization-id"] == owner.organization
    after = site.metrics()
    assert after[name] - before[name] == 2
    assert after["rate_limiter_rejections_total"] == before["rate_limiter_rejections_total"]
    check_refused(get(proxy, owner), "rate_limited", "burst", "daily")


def test_an_organization_in_shadow(site: Site, proxy: Proxy) -> None:
    """On every route, until it is enforced again: then the usage until then counts."""
    owner = site.customer(daily_quota=1)
    set_limits(site, owner, "shadow")
    for path in ("/api/v1/customers/42", REPORT, "/api/v1/customers/42"):
        check_untold(get(proxy, owner, path))
    set_limits(site, owner, "enforce")
    check_refused(get(proxy, owner), "daily_quota_exceeded", "daily")


def set_limits(site: Site, owner: Customer, mode: str) -> None:
    """`enforce` or `shadow`, and in force."""

    async def change(operator: management.Management) -> None:
        await operator.tenants.update_organization(owner.organization, {"limits_mode": mode})

    site.manage(change)
    eventually(lambda: usage(site.stack.proxies[0], owner)["enforced"] == (mode == "enforce"))


def test_a_bucket_for_each_address(proxy: Proxy, address: str) -> None:
    """On a public route with a limit a client address gets 429 after its burst; others, and other routes, do not."""
    first, second, third = (ask(proxy, LOGIN, source=address, method="POST") for _ in range(3))
    assert [first.status, second.status] == [200, 200]
    assert first["ratelimit-policy"] == '"burst";q=2;w=7200'
    assert [first["ratelimit"], second["ratelimit"]] == ['"burst";r=1;t=3600', '"burst";r=0;t=3600']
    assert not [name for name in first.seen if name.startswith(("x-organ", "x-api", "x-perm", "x-plan"))]
    check_refused(third, "rate_limited", "burst")
    assert ask(proxy, LOGIN, source=next(_addresses)).status == 200
    check_untold(ask(proxy, "/public/prices", source=address))


def test_an_address_is_the_same_behind_both_proxies(site: Site, address: str) -> None:
    """X-Real-IP of nginx and the last of Envoy's x-forwarded-for are one bucket."""
    envoy, nginx = site.stack.proxies
    assert [ask(proxy, LOGIN, source=address).status for proxy in (envoy, nginx, envoy, nginx)] == [200, 200, 429, 429]


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "X-Envoy-External-Address"]
)
def test_no_client_chooses_its_address(proxy: Proxy, address: str, name: str, customer: Customer) -> None:
    """The address of a client stays the same, whatever its headers say of it and whatever credential it shows."""
    said = [{name: f"192.0.2.{number}"} | bearer(customer.key) for number in range(4)]
    assert [ask(proxy, LOGIN, headers, source=address).status for headers in said] == [200, 200, 429, 429]


def test_retry_after_is_long_enough(site: Site, proxy: Proxy) -> None:
    """`Retry-After` of a costly request is the wait for all of its tokens in the key's bucket: then one passes."""
    owner = site.customer(rate="1/h", burst=30, own=Limits(Rate(5, 1), 10))
    assert get(proxy, owner, REPORT).status == 200
    refused = get(proxy, owner, REPORT)
    assert (refused.status, refused.json["violated-policies"], refused["retry-after"]) == (429, ["key-burst"], "2")
    time.sleep(int(refused["retry-after"]))  # the promise is about time itself
    assert [get(proxy, owner, REPORT).status for _ in range(2)] == [200, 429]
