"""The last step of a check: limits of a key, of an address, in shadow, and requests that come again."""

from dataclasses import replace

import pytest

from extauthz.core.decision import Allow, Decision, Deny
from extauthz.core.failure import OnRedisDown
from extauthz.core.limits import Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.routes import Route
from extauthz.transports.http.dialect import Wording
from extauthz.transports.http.dialects.forward import Forward
from tests.unit.service.fakes import KEY, TENANT, FakeService, open_house

TWO = Limits(Rate(1, 1), 2, None, None)
FULL_KEY = replace(KEY, permissions={"*": frozenset({"read", "write"})})


def reasons(*decisions: Decision) -> list[Reason]:
    return [decision.reason for decision in decisions]


def with_limits(
    fake_service: FakeService, *, tenant: Limits = TENANT.limits, key: Limits = KEY.limits, shadow: bool = False
) -> None:
    fake_service.store(replace(FULL_KEY, limits=key, tenant=replace(TENANT, limits=tenant, shadow=shadow)))


async def test_a_key_has_limits_inside_its_organizations() -> None:
    """The key's own limits refuse although the organization has plenty, by their own names, uncharged."""
    async with open_house() as fake_service:
        with_limits(fake_service, key=Limits(Rate(1, 1), 2, 1, None))
        allowed, refused = await fake_service.ask(), await fake_service.ask()
        assert isinstance(allowed, Allow)
        assert allowed.balance is not None
        names = [standing.name for standing in allowed.balance.limit_statuses]
        assert names == ["burst", "daily", "key-burst", "key-daily"]
        assert allowed.balance.binding is not None
        assert allowed.balance.binding.name == "key-daily"
        assert isinstance(refused, Deny)
        assert (refused.reason, refused.balance and refused.balance.refused) == (
            Reason.DAILY_QUOTA_EXCEEDED,
            ("key-daily",),
        )


async def test_a_request_that_never_fits_a_key() -> None:
    """A cost above the burst of the key or the organization is refused for good, without a call."""
    async with open_house() as fake_service:
        with_limits(fake_service, key=Limits(Rate(1, 1), 14, None, None))
        decision = await fake_service.ask("/api/reports/1")
        assert isinstance(decision, Deny)
        assert (decision.reason, decision.retry_after) == (Reason.COST_EXCEEDS_LIMIT, None)
        assert fake_service.limits.calls == 0


@pytest.mark.parametrize("by_route", [True, False])
async def test_shadow_refuses_nothing(by_route: bool) -> None:
    """In shadow mode all requests pass, the would-be decision is observed, and clients get no headers of limits."""
    async with open_house() as fake_service:
        with_limits(fake_service, tenant=TWO, shadow=not by_route)
        path = "/api/beta/1" if by_route else "/api/customers/1"
        found = [await fake_service.ask(path) for _ in range(3)]
        assert reasons(*found) == [Reason.ALLOW] * 3
        assert fake_service.watch.in_shadow == [Reason.ALLOW, Reason.ALLOW, Reason.RATE_LIMITED]
        assert [reason for _, _, reason in fake_service.meter.noted] == fake_service.watch.in_shadow
        for decision in found:
            assert isinstance(decision, Allow)
            assert decision.identity is not None
            names = [name for name, _ in Forward(Wording()).render(decision).headers]
            assert not [name for name in names if "ratelimit" in name]


async def test_cost_above_the_burst_in_shadow() -> None:
    """A cost above the burst passes in shadow mode, and is observed."""
    async with open_house() as fake_service:
        with_limits(fake_service, tenant=TWO, shadow=True)
        assert isinstance(await fake_service.ask("/api/reports/1"), Allow)
        assert fake_service.watch.in_shadow == [Reason.COST_EXCEEDS_LIMIT]


async def test_shadow_without_redis() -> None:
    """Limits in shadow mode do not refuse while Redis is away, even where others would."""
    async with open_house(on_redis_down=OnRedisDown.CLOSED) as fake_service:
        with_limits(fake_service, shadow=True)
        await fake_service.ask()
        await fake_service.lose(fake_service.redis)
        decision = await fake_service.ask()
        assert isinstance(decision, Allow)
        assert decision.degraded


async def test_addresses_have_buckets_at_public_routes() -> None:
    """Each address, or network of IPv6, has its own bucket at the route; no subject is identified or counted."""
    async with open_house() as fake_service:
        one = [await fake_service.ask("/public/search", "", client_address="203.0.113.7") for _ in range(3)]
        assert reasons(*one) == [Reason.ALLOW, Reason.ALLOW, Reason.RATE_LIMITED]
        for address in ("203.0.113.8", "2001:db8::1", ""):
            assert isinstance(await fake_service.ask("/public/search", "", client_address=address), Allow)
        six = [await fake_service.ask("/public/search", "", client_address=f"2001:db8::{n}") for n in range(2, 4)]
        assert reasons(*six) == [Reason.ALLOW, Reason.RATE_LIMITED]
        assert isinstance(one[0], Allow)
        assert one[0].identity is None
        assert fake_service.meter.noted == []


async def test_a_public_route_without_redis() -> None:
    """A request that cannot be counted passes, or is refused where limits must hold."""
    for policy, reason in ((OnRedisDown.OPEN, Reason.ALLOW), (OnRedisDown.CLOSED, Reason.LIMITS_UNAVAILABLE)):
        async with open_house(on_redis_down=policy) as fake_service:
            await fake_service.lose(fake_service.redis)
            assert reasons(await fake_service.ask("/public/search", "", client_address="203.0.113.7")) == [reason]


async def test_a_request_that_comes_again_is_charged_once() -> None:
    """The same id, key, method, host and path pass twice more without a charge; the fourth is charged again."""
    async with open_house(charge_once=True) as fake_service:
        with_limits(fake_service, tenant=Limits(Rate(1, 60), 2, None, None))
        found = [await fake_service.ask(request_id="r1") for _ in range(5)]
        assert reasons(*found) == [Reason.ALLOW] * 4 + [Reason.RATE_LIMITED]
        assert [decision.cost for decision in found if isinstance(decision, Allow)] == [1, 0, 0, 1]
        assert len(fake_service.meter.noted) == 3


async def test_what_is_another_request() -> None:
    """Another id, method, host, path or query is another request, and so is one without an id."""
    async with open_house(charge_once=True) as fake_service:
        with_limits(fake_service, tenant=Limits(Rate(1, 60), 8, None, None))
        found = [
            await fake_service.ask(request_id="r1"),
            await fake_service.ask(request_id="r2"),
            await fake_service.ask(request_id="r1", method="POST"),
            await fake_service.ask(request_id="r1", method="HEAD"),
            await fake_service.ask("/api/customers/8", request_id="r1"),
            await fake_service.ask("/api/customers/7?a=1", request_id="r1"),
            await fake_service.ask(request_id="r1", host="dear.example.com"),
            await fake_service.ask(),
            await fake_service.ask(),
        ]
        assert reasons(*found) == [Reason.ALLOW] * 8 + [Reason.RATE_LIMITED]


async def test_a_route_of_another_host_is_charged_too() -> None:
    """A charge at a cheap host does not cover a dear one; another form of a host is the same request."""
    routes = [Route("/**", resource="customer"), Route("/**", host="dear.example.com", resource="customer", cost=10)]
    async with open_house(charge_once=True, routes=routes) as fake_service:
        with_limits(fake_service, tenant=Limits(Rate(1, 60), 100, None, None))
        hosts = ["cheap.example.com", "dear.example.com", "DEAR.example.com.:443", "cheap.example.com:80"]
        found = [await fake_service.ask("/x", request_id="r1", host=host) for host in hosts]
        assert [decision.cost for decision in found if isinstance(decision, Allow)] == [1, 10, 0, 0]


async def test_ids_have_no_effect_by_default() -> None:
    """Unless charge once is on, a repeated request is charged again."""
    async with open_house() as fake_service:
        with_limits(fake_service, tenant=TWO)
        found = [await fake_service.ask(request_id="r1") for _ in range(3)]
        assert reasons(*found) == [Reason.ALLOW, Reason.ALLOW, Reason.RATE_LIMITED]
