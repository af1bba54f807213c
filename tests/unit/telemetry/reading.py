"""Reads a collector as a scrape would."""

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from extauthz.telemetry.samples import take


def read(collector: Collector) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return {(sample.name, *(value for _, value in sample.labels)): sample.value for sample in take(registry)}
