"""Metrics of background tasks."""

import asyncio

import pytest

from extauthz.core.figures import Figures
from extauthz.telemetry import loop_lag, service, usage
from extauthz.telemetry.drops import Drops
from extauthz.telemetry.loop_lag import LoopLag
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.service import FIGURES_MAX_AGE_SECONDS, NAME_LONGEST, ServiceMetrics
from extauthz.telemetry.usage import UsageMetrics
from tests.servers.fixtures import keep_our_loop_busy
from tests.servers.waiting import until
from tests.unit.telemetry.reading import read

LAG = "extauthz_event_loop_lag_seconds"


async def test_a_busy_loop_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that is due while the loop is blocked is measured to its end; nothing is measured once it is stopped."""
    monkeypatch.setattr(loop_lag, "SAMPLE_INTERVAL_SECONDS", 0.001)
    lag = LoopLag()
    lag.start()
    await until(lambda: read(lag)[f"{LAG}_count",] > 0)
    await keep_our_loop_busy(0.3, after=0)
    await until(lambda: read(lag)[f"{LAG}_count",] > read(lag)[f"{LAG}_bucket", "0.25"])
    lag.stop()
    count = read(lag)[f"{LAG}_count",]
    await asyncio.sleep(0.01)
    assert read(lag)[f"{LAG}_count",] == count


def test_a_supervisor_is_a_process_of_its_own() -> None:
    """Its CPU, memory and dropped log lines are added to those of its workers; one process alone counts them once."""
    own = {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds", "extauthz_log_dropped"}
    for supervises in (True, False):
        metrics = ServiceMetrics(commit="", peppers=[], supervises=supervises)
        assert own & {metric.name for metric in metrics.registry.collect()} == (own if supervises else set())
    assert own <= {metric.name for metric in Metrics(["envoy"]).registry.collect()}


def test_drops_are_asked_for() -> None:
    """The sum over all parts of a kind; 0 for those switched off."""
    drops, counts = Drops(), {"one": 0, "other": 5}
    drops.watch("tail", lambda: counts["one"])
    drops.watch("tail", lambda: counts["other"])
    counts["one"] = 2
    assert read(drops) == {
        ("extauthz_decision_log_dropped_total",): 0,
        ("extauthz_tail_dropped_total",): 7,
        ("extauthz_spans_dropped_total",): 0,
    }


def test_the_flush_lag_ends_with_a_whole_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches back to the beginning of the last complete save; a partial one does not change it."""
    now = 100.0
    monkeypatch.setattr(usage, "monotonic", lambda: now)
    metrics = UsageMetrics()
    for after, complete, lag in ((7, None, 7), (1, False, 8), (2, True, 0.5), (10, None, 10.5)):
        now += after
        if complete is not None:
            metrics.saved(0.5, complete=complete)
        assert read(metrics)["extauthz_usage_flush_lag_seconds",] == lag
    assert read(metrics)["extauthz_usage_save_seconds_count",] == 2


def test_figures_are_reported_until_they_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peppers without a setting count as one; a name is cut; the audit log's number never falls."""
    now = 1000.0
    monkeypatch.setattr(service, "monotonic", lambda: now)
    metrics = ServiceMetrics(commit="", peppers=["new", "old"])
    metrics.read(Figures(1, 2, {}, audit_rows=9))
    metrics.read(Figures(1, 2, {"new": 3, "a": 4, "b": 5}, 7, backlog=6, oldest_seconds=60.0, names={"id": "n" * 500}))
    now += FIGURES_MAX_AGE_SECONDS - 1
    found = read(metrics)
    assert (found["extauthz_keys_expiring", "7d"], found["extauthz_keys_expiring", "30d"]) == (1, 2)
    peppers = {labels[0]: keys for (name, *labels), keys in found.items() if name == "extauthz_pepper_keys"}
    assert peppers == {"new": 3, "old": 0, "unknown": 9}
    assert (found["extauthz_webhook_backlog",], found["extauthz_webhook_oldest_age_seconds",]) == (6, 60)
    assert found["extauthz_tenant_info", "n" * NAME_LONGEST, "id"] == 1
    assert found["extauthz_audit_rows_total",] == 9
    now += 2
    late = read(metrics)
    assert late["extauthz_audit_rows_total",] == 9
    assert not {name for name, *_ in late} & {"extauthz_keys_expiring", "extauthz_pepper_keys", "extauthz_tenant_info"}
