"""A cached authorization lasts as long as the records that it was computed from."""

from dataclasses import replace

import pytest

from extauthz.core.decision import Deny
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.permissions import FULL_ACCESS
from extauthz.core.reason import Reason
from extauthz.core.routes import Match
from extauthz.core.spend import Spend
from extauthz.core.subject import Identity
from extauthz.core.tenants import Tenant
from extauthz.service.check import authorize
from extauthz.service.check.authorize import Authorizations, AuthorizedRequest
from tests.unit.service.fakes import KEY, NOW, TENANT

SLOT = 900  # seconds
READ = Match("customer", "read", 1, public=False, cache=True)


def spend_of(grant: AuthorizedRequest) -> Spend:
    assert isinstance(grant.asked, Spend), grant.asked
    return grant.asked


def test_authorization_is_computed_once() -> None:
    """The same records at the same route give the same authorization, within a quarter of an hour."""
    held = Authorizations()
    grant = held.of(KEY, TENANT, READ, NOW)
    assert grant.identity == Identity(TENANT.id, KEY.id, "customer:read", TENANT.plan)
    assert spend_of(grant).limits == TENANT.limits
    assert held.of(KEY, TENANT, READ, NOW + 1) is grant
    assert held.of(KEY, TENANT, READ._replace(cache=False, shadow=True), NOW + 1) is grant


@pytest.mark.parametrize(
    ("key", "tenant"),
    [
        (replace(KEY, permissions={}), TENANT),
        (replace(KEY, limits=Limits(daily_quota=1)), TENANT),
        (KEY, replace(TENANT, plan="other")),
        (KEY, replace(TENANT, limits=Limits(daily_quota=1))),
        (replace(KEY), TENANT),
        (KEY, replace(TENANT)),
    ],
    ids=["permissions", "limits of the key", "plan", "limits", "key as before", "tenant as before"],
)
def test_another_record_makes_another_grant(key: ApiKey, tenant: Tenant) -> None:
    """A newer record of the key or its organization takes effect at once, and the old one is not kept."""
    held = Authorizations()
    before = held.of(KEY, TENANT, READ, NOW)
    after = held.of(key, tenant, READ, NOW)
    assert after is not before
    assert after == Authorizations().of(key, tenant, READ, NOW)
    assert (after.subject, after.tenant) == (key, tenant)
    assert (held.of(key, tenant, READ, NOW) is after) is isinstance(after.identity, Identity)
    assert held.of(KEY, TENANT, READ, NOW) is not before


@pytest.mark.parametrize("route", [READ._replace(resource="invoice"), READ._replace(mode="write")])
def test_another_route_is_another_grant(route: Match) -> None:
    """An authorization for one route is not used for another one."""
    held = Authorizations()
    allowed = held.of(KEY, TENANT, READ, NOW)
    refused = held.of(KEY, TENANT, route, NOW)
    assert isinstance(refused.identity, Deny)
    assert refused.identity.scope == f"{route.resource}:{route.mode}"
    assert held.of(KEY, TENANT, READ, NOW) is allowed
    assert held.of(KEY, TENANT, route, NOW) == refused


def test_the_cost_is_that_of_the_route() -> None:
    """Two routes of one resource may differ in cost, or cost more than ever fits."""
    held, key = Authorizations(), replace(KEY, permissions=FULL_ACCESS)
    asked = [held.of(key, TENANT, READ._replace(cost=cost), NOW).asked for cost in (1, 20, 21)]
    assert [each.cost if isinstance(each, Spend) else each for each in asked] == [1, 20, Reason.COST_EXCEEDS_LIMIT]


@pytest.mark.parametrize("name", ["burst", "daily_quota", "monthly_quota"])
@pytest.mark.parametrize("of_key", [False, True], ids=["organization", "key"])
def test_no_wait_makes_a_limit_larger(name: str, of_key: bool) -> None:
    """A cost above a limit of the organization or of its key is refused for good."""
    rate = Rate(1, 1) if name == "burst" else None
    for size in (0, 4, 5, 6):
        if name == "burst" and not size:
            continue
        limits = Limits(**{"rate": rate, name: size})  # type: ignore[arg-type]  # a number for each of these names
        key = replace(KEY, permissions=FULL_ACCESS, limits=limits if of_key else Limits())
        tenant = TENANT if of_key else replace(TENANT, limits=limits)
        asked = Authorizations().of(key, tenant, READ._replace(cost=5), NOW).asked
        assert isinstance(asked, Spend) == (size >= 5), size
        assert isinstance(asked, Spend) or asked is Reason.COST_EXCEEDS_LIMIT


def test_another_key_of_the_organization() -> None:
    """Each key has its own authorization."""
    held, other = Authorizations(), replace(KEY, id="key-2", digest="0" * 64)
    names = [held.of(key, TENANT, READ, NOW).identity for key in (KEY, other, KEY)]
    assert [name.subject_id for name in names if isinstance(name, Identity)] == [KEY.id, "key-2", KEY.id]


@pytest.mark.parametrize("after", [0.0, 1.0, 100.5, SLOT - 1])
def test_own_limits_end_when_they_end(after: float) -> None:
    """An override holds to its last moment and the plan from then on, also within a cached authorization."""
    until = NOW + after
    of_plan = Limits(Rate(1, 1), 5)
    held, tenant = Authorizations(), replace(TENANT, overrides_until=until, plan_limits=of_plan)
    if after:
        assert spend_of(held.of(KEY, tenant, READ, NOW)).limits == TENANT.limits
        assert spend_of(held.of(KEY, tenant, READ, until - 0.001)).limits == TENANT.limits
    for late in (until, until + 0.001, until + 10 * SLOT):
        assert spend_of(held.of(KEY, tenant, READ, late)).limits == of_plan


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"])
def test_the_windows_are_those_of_now(zone: str) -> None:
    """At any minute of two days windows equal those computed without a cache, wherever midnight is."""
    tenant = replace(TENANT, calendar=replace(TENANT.calendar, timezone=zone))
    held = Authorizations()
    for minute in range(2 * 24 * 60):
        for moment in (60.0 * minute, 60.0 * minute + 59.999):
            now = NOW + moment
            assert spend_of(held.of(KEY, tenant, READ, now)).windows == tenant.calendar.round(now)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any number of names from a client the number of authorizations is bounded; those in use return."""
    monkeypatch.setattr(authorize, "HELD_MAX", 10)
    held = Authorizations()
    key = replace(KEY, permissions=FULL_ACCESS)
    for number in range(100):
        grant = held.of(key, TENANT, READ._replace(resource=f"r{number}"), NOW)
        assert len(held._held) <= 10
        assert held.of(key, TENANT, READ._replace(resource=f"r{number}"), NOW) is grant


def test_denials_are_not_kept() -> None:
    """A key that names resources without permission fills no memory, and evicts no other authorization."""
    held = Authorizations()
    grant = held.of(KEY, TENANT, READ, NOW)
    for number in range(2 * authorize.HELD_MAX):
        assert isinstance(held.of(KEY, TENANT, READ._replace(resource=f"r{number}"), NOW).identity, Deny)
    assert len(held._held) == 1
    assert held.of(KEY, TENANT, READ, NOW) is grant
