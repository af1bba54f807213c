"""Metrics of stores' clients at each scrape, and how long stores were away."""

from dataclasses import dataclass

import pytest

from extauthz.core.ports import POSTGRESQL, REDIS, Store
from extauthz.telemetry import stores
from extauthz.telemetry.stores import StoreMetrics
from tests.unit.telemetry.reading import read


@dataclass
class Client:
    operations: int = 0
    clock_skew: float | None = None
    max_size: int = 11
    idle: int = 0
    busy: int = 0
    waiting: int = 0


@dataclass
class Breaker:
    name: Store
    up: bool


def test_before_anything_was_seen() -> None:
    """Both stores are away, and the offsets of their clocks are unknown."""
    found = read(StoreMetrics())
    for store in (POSTGRESQL, REDIS):
        assert found["extauthz_degraded", store] == found["extauthz_circuit_breaker_open", store] == 1
        assert found["extauthz_store_operations_total", store] == 0
        assert ("extauthz_store_clock_skew_seconds", store) not in found


def test_seconds_away_go_on_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start to the first answer, and from each loss to its return; repeated events change nothing."""
    now = 100.0
    monkeypatch.setattr(stores, "monotonic", lambda: now)
    metrics = StoreMetrics()
    for after, up, seconds in ((2, None, 2), (1, True, 3), (50, True, 3), (0, False, 3), (4, False, 7), (1, True, 8)):
        now += after
        if up is not None:
            metrics.changed(REDIS, up=up)
        found = read(metrics)
        assert found["extauthz_degraded_seconds_total", REDIS] == seconds
        assert found["extauthz_degraded", REDIS] == (0 if up else 1)
    assert found["extauthz_degraded", POSTGRESQL] == 1


def test_clients_are_added_up() -> None:
    """Calls of all clients; the largest clock offset; connections that checks use."""
    metrics = StoreMetrics()
    pool, behind = Client(5, 0.1, idle=1, busy=2, waiting=3), Client(7, -0.4, idle=9, busy=9, waiting=9)
    breakers = Breaker(POSTGRESQL, up=True), Breaker(REDIS, up=False)
    metrics.watch({POSTGRESQL: [pool, behind], REDIS: [Client(2)]}, pools=[pool], breakers=breakers)
    found = read(metrics)
    assert found["extauthz_store_operations_total", POSTGRESQL] == 12
    assert found["extauthz_store_operations_total", REDIS] == 2
    assert found["extauthz_store_clock_skew_seconds", POSTGRESQL] == -0.4
    assert ("extauthz_store_clock_skew_seconds", REDIS) not in found
    assert (found["extauthz_pool_connections", "idle"], found["extauthz_pool_connections", "busy"]) == (1, 2)
    assert (found["extauthz_pool_waiting",], found["extauthz_pool_connections_max",]) == (3, 11)
    assert found["extauthz_circuit_breaker_open", POSTGRESQL] == 0
    assert found["extauthz_circuit_breaker_open", REDIS] == 1
