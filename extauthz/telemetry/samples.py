"""Samples: what one process has counted, as it goes to another, and how several processes' samples become one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from extauthz.telemetry.distribution import Seen, traced


class Sample(NamedTuple):
    """One line of an exposition. `seen` is the example of a histogram's bucket."""

    family: str
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    seen: Seen | None = None


def _sum(one: float, other: float) -> float:
    return one + other


def _farther(one: float, other: float) -> float:
    """The one that is farther from 0."""
    return max(one, other, key=abs)


# What the values of several processes make together: the worst of them, or their sum. All else is added up.
GAUGES: Mapping[str, Callable[[float, float], float]] = {
    "extauthz_build_info": max,
    "extauthz_change_feed_down": max,
    "extauthz_circuit_breaker_open": max,
    "extauthz_degraded": max,
    "extauthz_epoch_unknown": max,
    "extauthz_keys_expiring": max,
    "extauthz_pepper_keys": max,
    "extauthz_pool_connections": _sum,
    "extauthz_pool_connections_max": _sum,
    "extauthz_pool_waiting": _sum,
    "extauthz_store_certificate_expiry_seconds": min,
    "extauthz_store_clock_skew_seconds": _farther,
    "extauthz_tenant_info": max,
    "extauthz_tenant_quota_used_ratio": max,
    "extauthz_usage_flush_lag_seconds": min,  # any worker writes down what all have charged
    "extauthz_usage_unsaved": max,
    "extauthz_webhook_backlog": max,
    "extauthz_webhook_oldest_age_seconds": max,
    "extauthz_workers": _sum,
    "process_max_fds": _sum,
    "process_open_fds": _sum,
    "process_resident_memory_bytes": _sum,
    "process_start_time_seconds": min,
    "process_virtual_memory_bytes": _sum,
}


def take(registry: CollectorRegistry) -> list[Sample]:
    """All values of a registry now."""
    return [
        Sample(
            metric.name,
            sample.name,
            tuple(sorted(sample.labels.items())),
            sample.value,
            None if sample.exemplar is None else traced(sample.exemplar),
        )
        for metric in registry.collect()
        for sample in metric.samples
    ]


def merge(parts: Iterable[Sequence[Sample]]) -> list[Sample]:
    """The samples of several processes as one."""
    values: dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[float, Seen | None]] = {}
    for part in parts:
        for family, name, labels, value, seen in part:
            key = family, name, labels
            before = values.get(key)
            if before is None:
                values[key] = value, seen
            else:
                values[key] = GAUGES.get(family, _sum)(before[0], value), _later(before[1], seen)
    return [Sample(*key, *value) for key, value in values.items()]


def counted(samples: Iterable[Sample]) -> list[Sample]:
    """Those that stay when their process ends: gauges end with it."""
    return [sample for sample in samples if sample.family not in GAUGES]


def _later(one: Seen | None, other: Seen | None) -> Seen | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda seen: seen.at)
