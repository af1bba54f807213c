"""`/usage` through both proxies: callers see the balance of their own limits, and nothing else."""

import re
import time

import pytest

from extauthz.app import management
from extauthz.core.limits import Limits, Rate
from extauthz.demo.stack import Proxy
from tests.e2e.checks import check_unavailable, left, usage
from tests.e2e.client import Client, ask, bearer, request
from tests.e2e.site import Customer, Site, healthy
from tests.servers.fixtures import stopped
from tests.servers.waiting import eventually

HOUR, DAY = 3600, 86_400
LIE = "lie-5ce2"


def test_what_was_spent(site: Site, proxy: Proxy) -> None:
    """The figures are those of the rate limit headers, of the organization and of the key, whatever the proxy."""
    own = Limits(Rate(1, HOUR), 10, 50)
    owner = site.customer(rate="2/h", burst=30, daily_quota=100, monthly_quota=1000, own=own)
    spent = ask(proxy, "/api/v1/reports/1", bearer(owner.key))
    for told in [usage(other, owner) for other in site.stack.proxies]:
        limits = told["limits"].items()
        assert left(told) == {"burst": 20, "daily": 90, "monthly": 990, "key-burst": 0, "key-daily": 40}
        assert {at["used"] for _, at in limits} == {10}
        assert spent["ratelimit-policy"] == ", ".join(
            f'"{name}";q={at["limit"]};w={at["window"]}' for name, at in limits
        )
        assert re.findall(r'"([a-z-]+)";r=(\d+)', spent["ratelimit"]) == [
            (name, str(remaining)) for name, remaining in left(told).items()
        ]
        assert HOUR / 2 - 60 < told["limits"]["burst"]["reset"] <= HOUR / 2
        assert abs(told["limits"]["daily"]["reset"] - (DAY - time.time() % DAY)) < 5
        assert (told["plan"], told["enforced"]) == (owner.plan, True)


def test_it_costs_nothing(site: Site, proxy: Proxy) -> None:
    """However often it is called, nothing is charged, decided or counted."""
    owner = site.customer(rate="1/h", burst=2, daily_quota=2)
    before, decisions = usage(proxy, owner), site.decisions()
    assert [left(usage(proxy, owner)) for _ in range(20)] == [left(before)] * 20
    assert left(before) == {"burst": 2, "daily": 2}
    assert site.decisions() == decisions
    assert [ask(proxy, headers=bearer(owner.key)).status for _ in range(3)] == [200, 200, 429]


def test_it_works_when_everything_is_used_up(site: Site, proxy: Proxy) -> None:
    """An organization whose requests are all refused with 429 sees the limit and when it resets."""
    owner = site.customer(rate="1/h", burst=1, daily_quota=1, monthly_quota=1)
    assert [ask(proxy, headers=bearer(owner.key)).status for _ in range(2)] == [200, 429]
    told = usage(proxy, owner)
    assert left(told) == {"burst": 0, "daily": 0, "monthly": 0}
    assert HOUR - 60 < told["limits"]["burst"]["reset"] <= HOUR


def test_without_limits_and_in_shadow(site: Site, proxy: Proxy, customer: Customer) -> None:
    """Without limits the used of day and month is all there is; in shadow the figures are as ever, and not enforced."""
    before = usage(proxy, customer)["limits"]
    assert {name: (at["limit"], at["remaining"]) for name, at in before.items()} == dict.fromkeys(
        ("daily", "monthly"), (None, None)
    )
    assert ask(proxy, headers=bearer(customer.key)).status == 200
    after = usage(proxy, customer)["limits"]
    assert {name: at["used"] - before[name]["used"] for name, at in after.items()} == {"daily": 1, "monthly": 1}
    owner = site.customer(rate="1/h", burst=1)

    async def shadow(operator: management.Management) -> None:
        await operator.tenants.update_organization(owner.organization, {"limits_mode": "shadow"})

    site.manage(shadow)
    eventually(lambda: not usage(proxy, owner)["enforced"])
    assert [ask(proxy, headers=bearer(owner.key)).status for _ in range(3)] == [200] * 3
    assert left(usage(proxy, owner)) == {"burst": 0}


def test_no_permission_is_needed(site: Site, proxy: Proxy) -> None:
    """A key without permissions sees its limits all the same."""
    assert left(usage(proxy, site.customer(permissions={}, daily_quota=5))) == {"daily": 5}


def test_a_bad_key(proxy: Proxy, bad_keys: dict[str, str]) -> None:
    """A bad key: 401 as everywhere, with the same bytes."""
    answers = [ask(proxy, "/usage", bearer(key)) for key in bad_keys.values()]
    assert len({(answer.status, answer.body, answer["www-authenticate"]) for answer in answers}) == 1
    assert (answers[0].status, answers[0].decision) == (401, "invalid_credentials")
    assert answers[0]["www-authenticate"] == 'Bearer realm="api", error="invalid_token"'
    none = ask(proxy, "/usage")
    assert (none.status, none["x-extauthz-code"], none["www-authenticate"]) == (
        401,
        "no_credentials",
        'Bearer realm="api"',
    )
    assert none.json["code"] == "no_credentials"


@pytest.mark.parametrize(
    "path",
    ["/usage/", "/usage/x", "/usages", "/Usage", "/usage;x", "/usage%2f", "/x/usage", "/v1/usage?organization_id=x"],
)
def test_nothing_else_leads_there(proxy: Proxy, customer: Customer, path: str) -> None:
    """Every other path is checked, and has no route here."""
    answer = ask(proxy, path, bearer(customer.key))
    assert answer.status in {400, 403}
    assert answer.decision in {None, "route_not_allowed", "path_ambiguous"}


@pytest.mark.parametrize("path", ["/x/../usage", "//usage", "/%75sage"])
def test_what_proxies_take_for_it(proxy: Proxy, customer: Customer, path: str) -> None:
    """Another spelling of the path gets one's own usage or nothing; never an upstream, never another's."""
    answer = ask(proxy, path, bearer(customer.key))
    assert answer.status in {200, 403, 404}
    if answer.status == 200:
        assert answer.json["organization_id"] == customer.organization


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_only_get_and_head(proxy: Proxy, customer: Customer, method: str) -> None:
    """Another method is 405, with a body or without; the next request on the connection is checked as itself."""
    with Client(proxy.port) as client:
        assert client.ask("/usage", bearer(customer.key), method="HEAD").body == b""
        answer = client.ask("/usage", bearer(customer.key), method=method)
        assert (answer.status, answer["allow"], answer.json["code"]) == (405, "GET, HEAD", "method_not_allowed")
    body = request("/api/v1/customers/42", bearer(customer.key)) * 100
    for verb, status in ((method, 405), ("GET", 200)):
        with Client(proxy.port) as client:
            client.write(request("/usage", bearer(customer.key), method=verb, body=body) + request("/elsewhere"))
            assert client.read().status == status
            assert client.read().decision == "route_not_allowed"


def test_headers_of_a_client_do_not_count(site: Site, proxy: Proxy, customer: Customer) -> None:
    """Identity comes from the key alone, whatever else is sent, and no header of the client comes back."""
    forged = {"X-Organization-Id": LIE, "X-Api-Key-Id": LIE, "X-Plan": LIE, "X-Original-URI": f"/{LIE}", "Cookie": LIE}
    answer = ask(proxy, "/usage?organization_id=" + LIE, bearer(customer.key) | forged)
    assert answer.json["organization_id"] == customer.organization
    assert LIE not in str(answer)
    assert ask(proxy, "/usage", forged).status == 401


def test_from_a_browser(proxy: Proxy, customer: Customer) -> None:
    """A page of an allowed origin may ask: its preflight is answered, and it may read what comes."""
    origin = {"Origin": "https://app.example.com"}
    preflight = ask(proxy, "/usage", origin | {"Access-Control-Request-Method": "GET"}, method="OPTIONS")
    assert preflight.status in {200, 204}
    assert "authorization" in preflight["access-control-allow-headers"].lower()
    for answer in (ask(proxy, "/usage", origin | bearer(customer.key)), ask(proxy, "/usage", origin)):
        assert answer["access-control-allow-origin"] == origin["Origin"]
        assert "origin" in answer["vary"].lower()
    assert "access-control-allow-origin" not in ask(proxy, "/usage", {"Origin": "https://evil.example"}).names


def test_without_redis(site: Site, reader: Customer) -> None:
    """Figures are never guessed: 503 until Redis is back, also with the policy `open`."""
    with stopped(site.stack.redis):
        for proxy in site.stack.proxies:
            check_unavailable(ask(proxy, "/usage", bearer(reader.key)), "limits_unavailable")
    eventually(lambda: healthy(site))
    for proxy in site.stack.proxies:
        assert "burst" in usage(proxy, reader)["limits"]


@pytest.mark.parametrize("harm", ["paused", "killed"])
def test_without_extauthz(site: Site, reader: Customer, harm: str) -> None:
    """The proxies answer as for any other path."""
    extauthz = site.stack.extauthz
    try:
        if harm == "paused":
            extauthz.pause()
        else:
            site.check_secrets()
            extauthz.kill()
        for proxy in site.stack.proxies:
            check_unavailable(ask(proxy, "/usage?x", bearer(reader.key)))
    finally:
        extauthz.resume() if harm == "paused" else extauthz.start()
        extauthz.wait_ready(lambda: healthy(site))  # a start may take longer than `eventually` waits
    for proxy in site.stack.proxies:
        assert "burst" in usage(proxy, reader)["limits"]
