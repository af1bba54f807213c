"""Which checks are written to the decision log, and what happens to lines that cannot be written."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow, Decision, deny
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.telemetry import decision_log
from extauthz.telemetry.decision_log import DROP_REPORT_INTERVAL_SECONDS, DecisionLog
from extauthz.telemetry.decision_record import DecisionRecords
from extauthz.telemetry.log_file import FileSink

RECORDS = DecisionRecords(hide=str, worker=0)
DENIED = deny(Reason.PERMISSION_DENIED)


@dataclass
class ListSink:
    """Keeps lines; `takes` cleared: it blocks; `broken`: it fails."""

    batch_bytes: int = 1 << 20
    broken: bool = False
    written: bytes = b""
    takes: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.takes.set()

    def write(self, lines: bytes) -> bool:
        self.takes.wait(30)
        if not self.broken:
            self.written += lines
        return not self.broken


def decided(decision: Decision, path: str = "/api/x") -> CheckResult:
    return CheckResult("envoy", CheckRequest("envoy", "GET", path, "h", (), "", "a", 1.0, 0.0, 0.0), 1.0, decision)


@pytest.fixture
def sink() -> Iterator[ListSink]:
    sink = ListSink()
    yield sink
    sink.takes.set()


@pytest.mark.parametrize(("allowed", "wanted"), [(0.0, 10), (0.25, 35), (1.0, 110)])
def test_which_are_written(sink: ListSink, allowed: float, wanted: int) -> None:
    """Denials always; of allowed checks none, a share, or all."""
    draws = iter([number / 100 for number in range(100)])
    log = DecisionLog(sink, RECORDS, allowed=allowed, draw=lambda: next(draws))
    for _ in range(100):
        log.decided(decided(Allow()))
    for _ in range(10):
        log.decided(decided(DENIED))
    assert log.close()
    lines = [json.loads(line) for line in sink.written.splitlines()]
    assert len(lines) == wanted
    assert [line["decision"] for line in lines[-10:]] == ["permission_denied"] * 10


def test_a_blocked_sink(sink: ListSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked sink delays no check; losses are counted, and logged once, then again after a minute."""
    monkeypatch.setattr(decision_log, "QUEUE_BYTES", 10_000)
    clock = [100.0]
    sink.takes.clear()
    with capture_logs() as logged:
        log = DecisionLog(sink, RECORDS, allowed=1.0, clock=lambda: clock[0])
        for _ in range(1000):
            log.decided(decided(DENIED))
        assert [entry["event"] for entry in logged] == ["decision_log_lines_dropped"]
        clock[0] += DROP_REPORT_INTERVAL_SECONDS
        log.decided(decided(DENIED))
        assert len(logged) == 2
        sink.takes.set()
        assert log.close()
    lost = log.count_dropped()
    assert len(sink.written.splitlines()) + lost == 1001
    assert sum(entry["count"] for entry in logged) == lost


def test_a_sink_that_is_blocked_at_the_end(sink: ListSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end does not wait for it, and logs how many lines are lost."""
    monkeypatch.setattr(decision_log, "FINISH_SECONDS", 0.01)
    sink.batch_bytes = 1  # of one line
    sink.takes.clear()
    with capture_logs() as logged:
        log = DecisionLog(sink, RECORDS, allowed=1.0)
        for _ in range(10):
            log.decided(decided(DENIED))
        assert not log.close()
    assert log.count_dropped() >= 9  # one may be with the sink
    assert [(entry["event"], entry["count"]) for entry in logged] == [
        ("decision_log_lines_dropped", log.count_dropped())
    ]


def test_a_sink_that_fails(sink: ListSink) -> None:
    """As with a full disk, each line is counted, and one log line gives their number."""
    sink.broken = True
    with capture_logs() as logged:
        log = DecisionLog(sink, RECORDS, allowed=1.0)
        for _ in range(100):
            log.decided(decided(DENIED))
        assert log.close()
    assert log.count_dropped() == 100
    assert sum(entry["count"] for entry in logged) == 100
    assert len(logged) <= 2  # the first at once, the rest at the end


@pytest.mark.parametrize("lines", [20_000, pytest.param(1_000_000, marks=pytest.mark.deep)])
def test_more_than_can_be_written(tmp_path: Path, lines: int) -> None:
    """Of a flood of denials of one key, every one is written or counted, and few wait."""
    result = decided(DENIED)
    log = DecisionLog(FileSink(str(tmp_path / "log")), RECORDS, allowed=1.0)
    for _ in range(lines):
        log.decided(result)
        assert log._writer._waiting_bytes <= decision_log.QUEUE_BYTES
    assert log._writer.finish(60)
    log.close()
    with (tmp_path / "log").open("rb") as file:
        written = sum(1 for _ in file)
    assert written + log.count_dropped() == lines
