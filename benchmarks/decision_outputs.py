"""What the decision log and live tails cost an allowed check: `make bench-decisions`. CPU time of every thread.

In this process, without proxy and stores; `make bench` says what the whole check costs. The least of several runs
counts, since whatever else runs only adds to it.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.ground import table
from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow
from extauthz.core.observers import CheckObserver
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match
from extauthz.core.tail import TailFilter
from extauthz.demo.folders import temporary_folder
from extauthz.telemetry.decision_log import DecisionLog
from extauthz.telemetry.decision_record import DecisionRecords
from extauthz.telemetry.log_file import FileSink
from extauthz.telemetry.tail import TailObserver
from tests.unit.service.fakes import KEY, KEY_FORMAT

CHECKS = 10_000  # of one run; their lines fit into the queue
RUNS = 9

REQUEST = CheckRequest(
    dialect="envoy",
    method="GET",
    path="/api/customers/4711?page=2",
    host="api.example.com",
    authorization=(),
    request_id="c6e1a3a0-1d2c-4b7a-a4b3-9b1b1b1b1b1b",
    client_address="192.0.2.1",
    now=1_790_000_000.25,
    started=0.0,
    deadline=0.0,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
ROUTE = Match("customer", "read", 1, public=False, cache=True, path="/api/{resource}/**")
RESULT = CheckResult("envoy", REQUEST, REQUEST.now, Allow(cost=1), ROUTE, KEY, "", 0.000312)


def main() -> None:
    """Measures and prints."""
    records = DecisionRecords(hide=KEY_FORMAT.hide, worker=0)
    idle, watched = (TailObserver(records, lambda _numbers, _line: None) for _ in range(2))
    watched.watch({1: TailFilter()})
    with temporary_folder("extauthz bench ") as folder:
        rows = [
            ("decision log `all`, to a file", _logged(folder, records, allowed=1.0)),
            ("decision log `0.01`", _logged(folder, records, allowed=0.01)),
            ("decision log `denials`", _logged(folder, records, allowed=0.0)),
            ("no tail", _least(lambda: _observe(idle))),
            ("one tail", _least(lambda: _observe(watched))),
        ]
    table(("output", "CPU µs a check"), [(name, f"{micros:.2f}") for name, micros in rows])


def _logged(folder: Path, records: DecisionRecords, *, allowed: float) -> float:
    """With the thread that writes, to its end."""

    def run() -> None:
        log = DecisionLog(FileSink(str(folder / "log")), records, allowed=allowed)
        _observe(log)
        if not log.close() or log.count_dropped():
            raise RuntimeError("lines were dropped: the figure would be too small")

    return _least(run)


def _observe(observer: CheckObserver) -> None:
    results = [replace(RESULT, request=replace(REQUEST, path=f"/api/customers/{n}?page=2")) for n in range(1000)]
    for _ in range(CHECKS // len(results)):
        for result in results:
            observer.decided(result)


def _least(run: Callable[[], None]) -> float:
    """Of several runs, in µs a check, less what making the results takes."""

    class Nothing:
        def decided(self, result: CheckResult) -> None:
            """Observes nothing."""

    return max(_seconds(run) - _seconds(lambda: _observe(Nothing())), 0.0) * 1e6


def _seconds(run: Callable[[], None]) -> float:
    least = float("inf")
    for _ in range(RUNS):
        gc.collect()
        before = time.process_time()
        run()
        least = min(least, (time.process_time() - before) / CHECKS)
    return least


if __name__ == "__main__":
    main()
