"""How late the event loop is: a timer that is due ten times a second, and when it came."""

import asyncio
from collections.abc import Iterable
from time import monotonic

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extauthz.telemetry.distribution import Distribution, histogram

SAMPLE_INTERVAL_SECONDS = 0.1  # a timer costs some microseconds
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class LoopLag(Collector):
    """Measures the loop that it is started in, until it is stopped."""

    def __init__(self) -> None:
        self._lags = Distribution(LAG_BUCKETS)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measures from now on."""
        self._timer = asyncio.get_running_loop().call_later(
            SAMPLE_INTERVAL_SECONDS, self._fired, monotonic() + SAMPLE_INTERVAL_SECONDS
        )

    def stop(self) -> None:
        """Ends that."""
        if self._timer is not None:
            self._timer.cancel()

    def _fired(self, due: float) -> None:
        self._lags.observe(max(monotonic() - due, 0.0))  # uvloop's timers come up to a millisecond early
        self.start()

    def collect(self) -> Iterable[Metric]:
        """The metric now."""
        yield histogram("extauthz_event_loop_lag_seconds", "How late a timer of the event loop came.", self._lags)
