"""Decisions of some organizations under their own names, of all others together: so many series, and no more."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from time import time

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.core.check_result import CheckResult
from extauthz.core.limit_kinds import QUOTAS
from extauthz.core.reason import Reason
from extauthz.telemetry.samples import Sample, merge

OTHER = "other"
_QUOTAS = tuple(quota.name for quota in QUOTAS)
DECISIONS, USED = "extauthz_tenant_decisions", "extauthz_tenant_quota_used_ratio"

Counts = dict[Reason, int]


class TenantCounts(Collector):
    """Counts by organization, first come, first served: an organization keeps its place as long as the service runs.

    A place that was given up would take its counts along, and a sum over all organizations would fall. Workers that
    count together are told by `keep` which organizations have a place; until then each may hold `at_most` of its own.
    """

    def __init__(self, at_most: int = 0) -> None:
        """`at_most` organizations have series of their own; 0: nothing is counted."""
        self.watching = at_most > 0  # every check is wanted
        self._at_most = at_most
        self._placed: Collection[str] = ()
        self._counts: dict[str, Counts] = {}
        self._others: Counts = {Reason.ALLOW: 0}
        self._used: dict[tuple[str, str], tuple[float, float]] = {}  # share of a quota, and when its window ends

    @property
    def organizations(self) -> Collection[str]:
        """Those that have series of their own."""
        return tuple(self._counts)

    def decided(self, result: CheckResult) -> None:
        """Counts an answered check whose organization is known."""
        if result.subject is None:
            return
        organization, decision = result.subject.organization_id, result.decision
        counts = self._counts.get(organization)
        if counts is None:
            counts = self._placed_or_others(organization)
        counts[decision.reason] = counts.get(decision.reason, 0) + 1
        if decision.balance is not None and counts is not self._others:
            for name, size, _, remaining, reset in decision.balance.limit_statuses:
                if name in _QUOTAS and reset is not None:
                    share = 1 - remaining / size if size else 1.0
                    self._used[organization, name] = share, result.at + reset

    def keep(self, placed: Collection[str]) -> None:
        """Only these have a place, if they are as many as may be; what others have counted is counted as theirs."""
        self._placed = placed
        if len(placed) < self._at_most:
            return
        for organization in self._counts.keys() - set(placed):
            for reason, count in self._counts.pop(organization).items():
                self._others[reason] = self._others.get(reason, 0) + count
            for name in _QUOTAS:
                self._used.pop((organization, name), None)

    def collect(self) -> Iterable[Metric]:
        """The metrics now; without samples where nothing is counted."""
        decisions = CounterMetricFamily(
            DECISIONS, "Answered checks by organization.", labels=["organization", "decision"]
        )
        used = GaugeMetricFamily(USED, "Share of a quota that is used.", labels=["organization", "quota"])
        if self._at_most:
            for organization, counts in (*self._counts.items(), (OTHER, self._others)):
                for reason, count in counts.items():
                    decisions.add_metric([organization, reason.value], count)
            now = time()
            for (organization, quota), (share, ends) in self._used.items():
                used.add_metric([organization, quota], share if now < ends else 0.0)
        yield decisions
        yield used

    def _placed_or_others(self, organization: str) -> Counts:
        places_left = len(self._counts) < self._at_most and len(self._placed) < self._at_most
        if organization != OTHER and (places_left or organization in self._placed):
            return self._counts.setdefault(organization, {})
        return self._others


class TenantPlaces:
    """The organizations that have a place in the samples of all workers together."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self.placed: dict[str, None] = {}  # in the order in which they came

    def assign(self, parts: Iterable[Sequence[Sample]]) -> list[Sample]:
        """The samples as one; the busiest of newly seen organizations get the places that are left."""
        samples = merge(parts)
        if not self._at_most:
            return samples
        self._place(samples)
        return merge([[kept for sample in samples if (kept := self._named(sample)) is not None]])

    def _place(self, samples: Iterable[Sample]) -> None:
        checks: dict[str, float] = {}
        for sample in samples:
            if sample.family == DECISIONS:
                organization = dict(sample.labels)["organization"]
                checks[organization] = checks.get(organization, 0.0) + sample.value
        news = [organization for organization in checks if organization not in self.placed and organization != OTHER]
        news.sort(key=lambda organization: -checks[organization])
        self.placed |= dict.fromkeys(news[: self._at_most - len(self.placed)])

    def _named(self, sample: Sample) -> Sample | None:
        if sample.family not in (DECISIONS, USED):
            return sample
        labels: Mapping[str, str] = dict(sample.labels)
        if labels["organization"] in self.placed or labels["organization"] == OTHER:
            return sample
        if sample.family == USED:
            return None
        return sample._replace(labels=tuple(sorted({**labels, "organization": OTHER}.items())))
