"""Series of organizations: their number is bounded, and none of their sums ever falls."""

import random
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry

from extauthz.core.balance import Balance, LimitStatus
from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow, Decision, deny
from extauthz.core.keys import ApiKey
from extauthz.core.limits import UNLIMITED
from extauthz.core.reason import Reason
from extauthz.core.tenants import Tenant
from extauthz.telemetry import tenants
from extauthz.telemetry.samples import Sample, take
from extauthz.telemetry.tenants import DECISIONS, OTHER, USED, TenantCounts, TenantPlaces
from tests.limit_names import BURST, DAILY, MONTHLY

REASONS = (Reason.RATE_LIMITED, Reason.PERMISSION_DENIED, Reason.DAILY_QUOTA_EXCEEDED, Reason.ORGANIZATION_SUSPENDED)


def check(organization: str, decision: Decision | None = None, *, at: float = 0.0) -> CheckResult:
    """A check of an organization's key."""
    tenant = Tenant(organization, "plan", "active", UNLIMITED, 0.0, 1)
    key = ApiKey("key", organization, {}, None, None, None, 0.0, 1, tenant, "")
    return CheckResult("envoy", None, at, decision or Allow(), subject=key)


def samples_of(counts: TenantCounts) -> list[Sample]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(counts)
    return take(registry)


def by_organization(samples: list[Sample]) -> dict[str, float]:
    """Decisions of each organization that has series, whatever they were."""
    found: Counter[str] = Counter()
    for sample in samples:
        if sample.family == DECISIONS:
            found[dict(sample.labels)["organization"]] += sample.value  # type: ignore[assignment]
    return dict(found)


def used(samples: list[Sample]) -> dict[tuple[str, str], float]:
    return {
        (labels["organization"], labels["quota"]): sample.value
        for sample in samples
        if sample.family == USED and (labels := dict(sample.labels))
    }


def test_the_first_keep_their_places() -> None:
    """Other organizations share a series; checks without one are not counted; one called other has no place."""
    counts = TenantCounts(2)
    for organization in ("a", OTHER, "b", "c", "a", "d", "c"):
        counts.decided(check(organization))
    counts.decided(CheckResult("envoy", None, 0.0, deny(Reason.NO_CREDENTIALS)))
    assert by_organization(samples_of(counts)) == {"a": 2, "b": 1, OTHER: 4}


def test_off_it_has_no_series() -> None:
    """Not even that of the rest."""
    assert samples_of(TenantCounts(0)) == []


def test_series_are_bounded_with_ten_thousand_organizations() -> None:
    """Three workers, each with all of them in another order: at most (N + 1) x decisions and 2 N series, at any time.

    Every check is counted once, and no counter ever falls, whichever organizations got places and which worker died.
    """
    most, chance = 50, random.Random(1)
    organizations = [f"organization {number}" for number in range(10_000)]
    places, workers = TenantPlaces(most), [TenantCounts(most) for _ in range(3)]
    dead: list[Sample] = []
    before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    balance = Balance((LimitStatus(DAILY, 10, 1, 9, 10**9), LimitStatus(MONTHLY, 10, 1, 9, 10**9)), (), 0, None)
    decisions: list[Decision] = [Allow(balance=balance), *map(deny, REASONS)]
    asked = 0
    for turn in range(12):
        for worker in workers:
            for organization in chance.sample(organizations, 2500):
                worker.decided(check(organization, chance.choice(decisions), at=10.0**9))
                asked += 1
        merged = places.assign([dead, *map(samples_of, workers)])
        own = by_organization(merged)
        assert len(own) == most + 1
        assert sum(own.values()) == asked
        assert len(merged) <= (most + 1) * len(decisions) + 2 * most
        counters = {(sample.name, sample.labels): sample.value for sample in merged if sample.family == DECISIONS}
        assert all(counters[key] >= value for key, value in before.items())
        before = counters
        if turn % 3 == 2:  # a worker dies, and another takes its place
            dead = [s for s in places.assign([dead, samples_of(workers.pop(0))]) if s.family == DECISIONS]
            workers.append(TenantCounts(most))
        for worker in workers:
            worker.keep(tuple(places.placed))
            assert len(by_organization(samples_of(worker))) <= most + 1


def test_workers_agree_on_places() -> None:
    """Once notified, all workers count an organization with a place under its name."""
    places, one, other = TenantPlaces(2), TenantCounts(2), TenantCounts(2)
    for organization in ("a", "b"):
        one.decided(check(organization))
    for organization in ("c", "c", "c", "d"):
        other.decided(check(organization))
    merged = places.assign([samples_of(one), samples_of(other)])
    assert by_organization(merged) == {"c": 3, "a": 1, OTHER: 2}  # the busiest first, then in their order
    for worker in (one, other):
        worker.keep(tuple(places.placed))
        for organization in "abcd":
            worker.decided(check(organization))
        assert by_organization(samples_of(worker)).keys() == {"a", "c", OTHER}
    assert by_organization(places.assign([samples_of(one), samples_of(other)])) == {"c": 5, "a": 3, OTHER: 6}


def test_the_share_of_a_quota_ends_with_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use of one day does not count on the next; a bucket is not a quota; a quota of 0 is always used up."""
    counts, now = TenantCounts(2), 1000.0
    limit_statuses = (
        LimitStatus(BURST, 5, 1, 1, 1),
        LimitStatus(DAILY, 100, 86400, 25, 60),
        LimitStatus(MONTHLY, 0, 1, 0, 600),
    )
    counts.decided(check("a", Allow(balance=Balance(limit_statuses, (), 0, None)), at=now))
    for at, daily, monthly in ((now, 0.75, 1.0), (now + 61, 0.0, 1.0), (now + 601, 0.0, 0.0)):
        monkeypatch.setattr(tenants, "time", lambda at=at: at)
        assert used(samples_of(counts)) == {("a", "daily"): daily, ("a", "monthly"): monthly}
