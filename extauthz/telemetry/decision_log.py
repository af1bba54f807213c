"""The decision log: a line of JSON for each check, or for some of them. It never delays one."""

import random
import threading
from collections.abc import Callable
from time import monotonic

import structlog

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow
from extauthz.telemetry.decision_record import DecisionRecords
from extauthz.telemetry.log_writer import LogWriter, Sink

QUEUE_BYTES = 8 << 20  # of lines that wait to be written, in each worker
GATHER_SECONDS = 0.05
DROP_REPORT_INTERVAL_SECONDS = 60.0  # between two lines of the log that say how many were dropped
# That the end of a process waits for lines to be written; with twice STOP_SECONDS of spans and metrics, under 2.
FINISH_SECONDS = 0.6


class DecisionLog:
    """Writes checks to a sink; an observer of checks.

    Lines that the sink is too slow for, or cannot take, are dropped and counted, and the log says so once a minute.
    """

    watching = True  # every check is wanted

    def __init__(
        self,
        sink: Sink,
        records: DecisionRecords,
        *,
        allowed: float,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`allowed` is the share of allowed checks that are written, from 0 to 1; of others, all are."""
        self._records = records
        self._allowed = allowed
        self._draw = draw
        self._clock = clock
        self._told = 0  # of the dropped
        self._said_at = -DROP_REPORT_INTERVAL_SECONDS
        self._saying = threading.Lock()
        self._writer = LogWriter(sink, queue_bytes=QUEUE_BYTES, gather=GATHER_SECONDS, tick=self._tick)

    def decided(self, result: CheckResult) -> None:
        """Takes the line of a check to be written."""
        if self._allowed < 1 and isinstance(result.decision, Allow) and self._draw() >= self._allowed:
            return
        self._writer.write(self._records.line(result))
        if self._writer.dropped != self._told:
            self._tick()

    def count_dropped(self) -> int:
        """How many lines were dropped so far."""
        return self._writer.dropped

    def close(self) -> bool:
        """Writes what waits, as far as that is quick; whether all of it was."""
        finished = self._writer.finish(FINISH_SECONDS)
        self._say(self._writer.dropped)
        return finished

    def _tick(self) -> float | None:
        """Says how many lines were dropped, if a minute is over; in how many seconds it is."""
        dropped = self._writer.dropped
        if dropped == self._told:
            return None
        wait = self._said_at + DROP_REPORT_INTERVAL_SECONDS - self._clock()
        if wait > 0:
            return wait
        self._say(dropped)
        return None

    def _say(self, dropped: int) -> None:
        with self._saying:
            new, self._told = dropped - self._told, dropped
            if new > 0:
                self._said_at = self._clock()
                structlog.get_logger().warning("decision_log_lines_dropped", count=new)
