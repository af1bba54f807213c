"""Both event loops that the service runs on, and listeners that close at once."""

import pytest

from tests.conftest import LOOPS, LoopFactories
from tests.unit.service.fakes import NOW


def pytest_asyncio_loop_factories() -> LoopFactories:
    """Every loop that is installed."""
    return LOOPS


@pytest.fixture(autouse=True)
def no_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listeners close at once, because no test connects meanwhile."""
    for module in ("server", "usage"):
        monkeypatch.setattr(f"extauthz.transports.http.{module}.LAST_CALL", 0)


@pytest.fixture(autouse=True)
def steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is that of the records and limits of fakes."""
    for module in ("handler", "fast_check"):
        monkeypatch.setattr(f"extauthz.transports.http.{module}.time", lambda: NOW)
