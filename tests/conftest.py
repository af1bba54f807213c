"""Fixtures and hooks of every test."""

import asyncio
import gc
import importlib
import importlib.util
import os
import signal
import subprocess
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
from hypothesis import Phase, settings

from tests.servers.forking import ForkingPopen

LoopFactories = dict[str, Callable[[], AbstractEventLoop]]

# The same examples in every run: a failure on one machine is a failure on all.
settings.register_profile("extauthz", derandomize=True, database=None, deadline=None, max_examples=10)
settings.register_profile("deep", settings.get_profile("extauthz"), max_examples=500)
# For `make mutation`: that a test fails is enough, the smallest example is not searched.
settings.register_profile("mutation", settings.get_profile("extauthz"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("extauthz")

# The event loops that are installed; uvloop comes with the extra `fast`.
LOOPS: LoopFactories = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop"):
    LOOPS["uvloop"] = importlib.import_module("uvloop").new_event_loop

# `TEST_LOOP=uvloop make test`: on that loop, what runs inside the process of the tests. Processes that tests start take
# uvloop where it is installed.
if "TEST_LOOP" in os.environ:

    def pytest_asyncio_loop_factories() -> LoopFactories:
        """The one loop that is asked for."""
        return {"asked": LOOPS[os.environ["TEST_LOOP"]]}


DAY = 86_400  # seconds
MARGIN = 20  # seconds that a test with servers takes at most, on a busy machine too


@pytest.fixture(autouse=True)
def within_one_day(request: pytest.FixtureRequest) -> None:
    """Lets a test with servers begin on the day on which it ends, by UTC.

    Servers have the machine's clock: a daily quota that is used up before midnight is a new one after it. Where a test
    would run into midnight, it begins just after; that is one wait for a whole run of the suite.
    """
    if "unit" not in request.path.parts and (left := DAY - time.time() % DAY) < MARGIN:
        time.sleep(left)


@pytest.fixture(scope="session", autouse=True)
def forked_processes() -> Iterator[None]:
    """Processes of extauthz are forked, which spares their imports. Ctrl-C ends them.

    Workers of xdist and jobs in the background ignore Ctrl-C, and child processes would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
    if os.environ.get("TEST_FORKS") == "off":
        yield
        return
    with patch.object(subprocess, "Popen", ForkingPopen):
        yield


@pytest.hookimpl(tryfirst=True)  # before what is not asked for is left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every property test `fuzz`: a few examples in the suite, many in `make test-deep`.

    Tests with a timeout of their own, which are the longest, come first: one of them at the end would be waited for
    while other cores are idle.
    """
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.fuzz)
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_collection_finish() -> None:
    """Excludes all modules and tests loaded by now from later garbage collections."""
    gc.collect()
    gc.freeze()
