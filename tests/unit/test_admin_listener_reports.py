"""The reports of a single process, beside the checks that it answers."""

import threading
from typing import Any

import pytest

from extauthz.app.admin_listener import own_reports
from extauthz.telemetry.exposition import TEXT, Exposition
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.service import ServiceMetrics


async def test_checks_do_not_wait_while_metrics_become_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread renders them, which asks no registry that the event loop counts in."""
    threads: list[int] = []
    render = Exposition.render

    def rendered(self: Exposition, *arguments: Any) -> tuple[bytes, str]:
        threads.append(threading.get_ident())
        for registry in self._registries:
            monkeypatch.setattr(registry, "collect", None)
        return render(self, *arguments)

    monkeypatch.setattr(Exposition, "render", rendered)
    metrics, service = Metrics(["envoy"], tenants=2), ServiceMetrics(commit="", peppers=["p1"])
    health: Any = None  # it is not asked
    body, content_type = await own_reports(health, metrics, service).metrics("")
    assert content_type == TEXT
    assert b"extauthz_build_info" in body
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
