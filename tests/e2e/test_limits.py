"""Buckets and quotas as clients meet them, the same bucket behind both proxies."""

import asyncio
import calendar
import re
import time
from datetime import UTC, datetime
from functools import partial

import pytest

from extauthz.app.management import Management
from extauthz.core.changes import EntityRef, Kind
from extauthz.core.credits import Credits
from extauthz.core.limits import Limits
from extauthz.demo.stack import Proxy
from tests.e2e.checks import LIMIT_HEADERS, check_refused, get
from tests.e2e.client import bearer, request
from tests.e2e.site import Customer, Site

DAY = 86_400


def seconds_of(name: str, ratelimit: str) -> int:
    """`t` of a policy in a `RateLimit` header."""
    found = re.search(rf'"{name}";r=\d+;t=(\d+)', ratelimit)
    assert found is not None
    return int(found[1])


def test_burst(site: Site, proxy: Proxy) -> None:
    """`burst` requests pass, the next is 429 `rate_limited` with the wait until a token."""
    owner = site.customer(rate="1/min", burst=2)
    first, second, third = (get(proxy, owner) for _ in range(3))
    assert [first.status, second.status] == [200, 200]
    assert [first["ratelimit"], second["ratelimit"]] == ['"burst";r=1;t=60', '"burst";r=0;t=60']
    check_refused(third, "rate_limited", "burst")
    assert third["ratelimit-policy"] == first["ratelimit-policy"] == '"burst";q=2;w=120'
    assert third["x-ratelimit-limit"] == first["x-ratelimit-limit"] == "2"
    assert 55 <= int(third["retry-after"]) <= 60


def test_daily_quota(site: Site, proxy: Proxy) -> None:
    """`daily_quota` requests pass, the next is 429 `daily_quota_exceeded` until midnight UTC."""
    owner = site.customer(rate="1/min", burst=10, daily_quota=1)
    allowed, refused = get(proxy, owner), get(proxy, owner)
    assert allowed["ratelimit-policy"] == refused["ratelimit-policy"] == '"burst";q=10;w=600, "daily";q=1;w=86400'
    assert re.fullmatch(r'"burst";r=9;t=60, "daily";r=0;t=\d+', allowed["ratelimit"])
    assert (allowed["x-ratelimit-limit"], allowed["x-ratelimit-remaining"]) == ("1", "0")
    check_refused(refused, "daily_quota_exceeded", "daily")
    now = datetime.now(UTC)
    reset = seconds_of("daily", refused["ratelimit"])
    assert abs(reset - (DAY - (now.hour * 60 + now.minute) * 60 - now.second)) <= 2
    assert str(reset) == refused["x-ratelimit-reset"]


def test_a_quota_of_zero(site: Site, proxy: Proxy) -> None:
    """No later window helps: 403 `cost_exceeds_limit`, without a Retry-After."""
    for owner in (site.customer(daily_quota=0), site.customer(monthly_quota=0)):
        refused = get(proxy, owner)
        assert (refused.status, refused.decision) == (403, "cost_exceeds_limit")
        assert "retry-after" not in refused.names


def test_monthly_quota(site: Site, proxy: Proxy) -> None:
    """One that is used up lets nothing through: 429 `monthly_quota_exceeded` until the month ends."""
    owner = site.customer(monthly_quota=1)
    assert get(proxy, owner).status == 200
    refused = get(proxy, owner)
    check_refused(refused, "monthly_quota_exceeded", "monthly")
    now = datetime.now(UTC)
    days = calendar.monthrange(now.year, now.month)[1]
    assert refused["ratelimit-policy"] == f'"monthly";q=1;w={days * DAY}'
    assert (days - now.day) * DAY <= int(refused["x-ratelimit-reset"]) <= (days - now.day + 1) * DAY


def test_hourly_quota(site: Site, proxy: Proxy) -> None:
    """Of an organization or of a key: 429 `hourly_quota_exceeded` until the clock shows a full hour."""
    for owner, name in (
        (site.customer(hourly_quota=1), "hourly"),
        (site.customer(own=Limits(hourly_quota=1)), "key-hourly"),
    ):
        allowed, refused = get(proxy, owner), get(proxy, owner)
        if allowed.status == refused.status == 200:  # a full hour lay between them
            refused = get(proxy, owner)
        assert allowed["ratelimit-policy"] == refused["ratelimit-policy"] == f'"{name}";q=1;w=3600'
        check_refused(refused, "hourly_quota_exceeded", name)
        assert abs(int(refused["x-ratelimit-reset"]) - (3600 - time.time() % 3600)) <= 2


async def grant(holder: EntityRef, operator: Management) -> Credits:
    """Grants one credit in all."""
    granted, _ = await operator.credits.set(holder, 1)
    return granted


def test_credits(site: Site, proxy: Proxy) -> None:
    """Of an organization or of a key: 429 `credits_exhausted`, without a time to come back, until more are granted."""
    kinds: tuple[tuple[Kind, str], ...] = (("organization", "credits"), ("api_key", "key-credits"))
    for kind, name in kinds:
        owner = site.customer()
        holder = EntityRef(kind, owner.organization if kind == "organization" else owner.key_id)
        site.manage(partial(grant, holder))
        allowed, refused = get(proxy, owner), get(proxy, owner)
        assert (allowed.status, allowed["ratelimit"]) == (200, f'"{name}";r=0')
        assert allowed["ratelimit-policy"] == refused["ratelimit-policy"] == f'"{name}";q=1'
        assert (refused.status, refused.decision) == (429, "credits_exhausted")
        assert not {"retry-after", "x-ratelimit-reset"} & set(refused.names)


def test_several_refuse_at_once(site: Site, proxy: Proxy) -> None:
    """The longest wait names the decision, and `violated-policies` names them all, behind nginx too."""
    owner = site.customer(rate="1/min", burst=1, daily_quota=1, monthly_quota=1)
    assert get(proxy, owner).status == 200
    refused = get(proxy, owner)
    longest = "monthly" if refused.decision == "monthly_quota_exceeded" else "daily"  # equal on a month's last day
    check_refused(refused, f"{longest}_quota_exceeded", "burst", "daily", "monthly")


def test_a_costly_route(site: Site, proxy: Proxy) -> None:
    """A route that costs 10 takes 10 from every limit."""
    owner = site.customer(rate="1/h", burst=25, daily_quota=100)
    report = "/api/v1/reports/2026"
    assert get(proxy, owner, report)["ratelimit"].startswith('"burst";r=15;t=3600, "daily";r=90;')
    assert get(proxy, owner, report).status == 200
    refused = get(proxy, owner, report)
    assert (refused.status, refused.json["violated-policies"]) == (429, ["burst"])
    assert get(proxy, owner)["ratelimit"].startswith('"burst";r=4;t=3')


def test_no_limits_no_headers(proxy: Proxy, customer: Customer) -> None:
    """An organization without limits gets no limit headers."""
    assert not get(proxy, customer).names & {*LIMIT_HEADERS, "retry-after"}


def test_each_header_once(site: Site, proxy: Proxy) -> None:
    """On allow and on 429 every header about limits stands exactly once."""
    owner = site.customer(rate="1/h", burst=1)
    for answer in (get(proxy, owner), get(proxy, owner)):
        assert [answer.all(name) for name in LIMIT_HEADERS] == [[answer[name]] for name in LIMIT_HEADERS]


def test_one_bucket_behind_both_proxies(site: Site) -> None:
    """Tokens that were taken through one proxy are gone behind the other."""
    envoy, nginx = site.stack.proxies
    owner = site.customer(rate="1/h", burst=2)
    assert [get(proxy, owner).status for proxy in (envoy, nginx, envoy, nginx)] == [200, 200, 429, 429]


def test_retry_after_is_long_enough(site: Site, proxy: Proxy) -> None:
    """After `Retry-After` seconds one request passes, and the next one waits again."""
    owner = site.customer(rate="1/s", burst=1)
    assert get(proxy, owner).status == 200
    refused = get(proxy, owner)
    assert refused["retry-after"] == "1"
    time.sleep(int(refused["retry-after"]))  # the promise is about time itself
    assert [get(proxy, owner).status for _ in range(2)] == [200, 429]


def test_metrics_count_what_was_spent(site: Site, proxy: Proxy) -> None:
    """Tokens taken, every 429, and those by the daily quota, under the names that dashboards know."""
    names = ("token_bucket_consumed_total", "rate_limiter_rejections_total", "daily_quota_hits_total")
    bucket, quota = site.customer(rate="1/h", burst=2), site.customer(rate="1/h", burst=5, daily_quota=1)
    before = site.metrics()
    for owner in (bucket, bucket, bucket, quota, quota):
        get(proxy, owner)
    after = site.metrics()
    assert [after[name] - before[name] for name in names] == [3, 2, 1]


@pytest.mark.parametrize("at_once", [16, 200])
@pytest.mark.parametrize("kind", ["bucket", "quota"])
async def test_concurrent_requests_do_not_exceed_a_limit(site: Site, kind: str, at_once: int) -> None:
    """Of 200 requests through both proxies exactly as many pass as the limit allows, and no crowd gets one more.

    A proxy that has no answer within its 200 ms says 503, so in a crowd some that were charged may not have passed.
    """
    make = {
        "bucket": lambda: site.customer(rate="1/h", burst=21),
        "quota": lambda: site.customer(daily_quota=21),
    }[kind]
    owner = await asyncio.to_thread(make)
    assert (await asyncio.to_thread(get, site.stack.proxies[0], owner)).status == 200
    data, turns = request("/api/v1/customers/42", bearer(owner.key)), asyncio.Semaphore(at_once)

    async def status(proxy: Proxy) -> bytes:
        async with turns:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(data)
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line.split()[1]

    statuses = await asyncio.gather(*(status(proxy) for _ in range(100) for proxy in site.stack.proxies))
    passed, refused, unanswered = (statuses.count(name) for name in (b"200", b"429", b"503"))
    assert passed + refused + unanswered == 200
    assert passed <= 20 <= passed + unanswered
    assert at_once == 200 or unanswered == 0
