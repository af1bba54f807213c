"""What the two stores are to this process: calls, whether they are away and since when, connections, clocks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.core.ports import POSTGRESQL, REDIS, Store

STORES = (POSTGRESQL, REDIS)


class Client(Protocol):
    """What speaks with a store: a pool of connections, or one that is shared."""

    @property
    def operations(self) -> int:
        """Calls so far."""
        ...

    @property
    def clock_skew(self) -> float | None:
        """Seconds by which the store's clock is certainly ahead of this machine's, negative: behind; None: unknown."""
        ...


class Pool(Protocol):
    """Connections that callers wait for."""

    max_size: int

    @property
    def idle(self) -> int:
        """Connections that nothing uses."""
        ...

    @property
    def busy(self) -> int:
        """Connections in use."""
        ...

    @property
    def waiting(self) -> int:
        """Callers without a connection."""
        ...


class Breaker(Protocol):
    """A circuit breaker in front of a store."""

    name: Store
    up: bool


class StoreMetrics(Collector):
    """Asks what it watches when it is read; outages are told to it."""

    def __init__(self) -> None:
        self._clients: Mapping[Store, Sequence[Client]] = {}
        self._pools: Sequence[Pool] = ()
        self._breakers: Sequence[Breaker] = ()
        self._away_since: dict[Store, float] = dict.fromkeys(STORES, monotonic())  # until it was seen
        self._away_seconds: dict[Store, float] = dict.fromkeys(STORES, 0.0)

    def watch(
        self, clients: Mapping[Store, Sequence[Client]], *, pools: Sequence[Pool], breakers: Sequence[Breaker]
    ) -> None:
        """Reads these from now on. `pools` are those that checks wait for."""
        self._clients, self._pools, self._breakers = clients, pools, breakers

    def changed(self, store: Store, *, up: bool) -> None:
        """A store went away, or came back."""
        since = self._away_since.pop(store, None)
        if since is not None:
            self._away_seconds[store] += monotonic() - since
        if not up:
            self._away_since[store] = monotonic()

    def collect(self) -> Iterable[Metric]:
        """The metrics now."""
        yield from self._outages()
        operations = CounterMetricFamily("extauthz_store_operations", "Calls to a store.", labels=["store"])
        skew = GaugeMetricFamily(
            "extauthz_store_clock_skew_seconds",
            "Seconds by which a store's clock is certainly ahead of extauthz's; negative: behind.",
            labels=["store"],
        )
        for store in STORES:
            clients = self._clients.get(store, ())
            operations.add_metric([store], sum(client.operations for client in clients))
            skews = [client.clock_skew for client in clients if client.clock_skew is not None]
            if skews:
                skew.add_metric([store], max(skews, key=abs))
        yield operations
        yield skew
        connections = GaugeMetricFamily(
            "extauthz_pool_connections", "Connections to PostgreSQL that checks share.", labels=["state"]
        )
        connections.add_metric(["idle"], sum(pool.idle for pool in self._pools))
        connections.add_metric(["busy"], sum(pool.busy for pool in self._pools))
        yield connections
        most, waiting = sum(pool.max_size for pool in self._pools), sum(pool.waiting for pool in self._pools)
        yield GaugeMetricFamily("extauthz_pool_connections_max", "As many as there may be of them.", value=most)
        yield GaugeMetricFamily("extauthz_pool_waiting", "Reads that wait for a connection.", value=waiting)

    def _outages(self) -> Iterator[Metric]:
        degraded = GaugeMetricFamily("extauthz_degraded", "1 while a store is away.", labels=["store"])
        seconds = CounterMetricFamily(
            "extauthz_degraded_seconds", "Seconds in which a store was away.", labels=["store"]
        )
        opened = GaugeMetricFamily(
            "extauthz_circuit_breaker_open", "1 while calls to a store are refused at once.", labels=["store"]
        )
        now, up = monotonic(), {breaker.name: breaker.up for breaker in self._breakers}
        for store in STORES:
            since = self._away_since.get(store)
            degraded.add_metric([store], 0 if since is None else 1)
            seconds.add_metric([store], self._away_seconds[store] + (0.0 if since is None else now - since))
            opened.add_metric([store], 0 if up.get(store) else 1)
        yield from (degraded, seconds, opened)
