"""The guard in front of a store: whose lateness it was, who is told, what is left behind, and the way back."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from extauthz.core.errors import StoreCorrupt
from extauthz.core.ports import REDIS
from extauthz.service import guard as guard_module
from extauthz.service.guard import CallPolicy, CircuitBreaker
from tests.unit.service.breaker_harness import TIMEOUT, BreakerHarness, fails, seven, silence
from tests.unit.service.fakes import Watch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "PROBE_EVERY", 0.001)


@pytest.fixture
async def bench() -> AsyncIterator[BreakerHarness]:
    made = BreakerHarness()
    await made.guard.start()
    assert made.watch.changes == [(REDIS, True, "")]
    made.watch.changes.clear()
    yield made
    await made.guard.close()


async def test_an_answer_passes_through(bench: BreakerHarness) -> None:
    """What the store says is what the caller gets; a record that makes no sense is no outage."""

    async def corrupt() -> None:
        raise StoreCorrupt(REDIS, "not JSON")

    assert await bench.run(seven) == 7
    with pytest.raises(StoreCorrupt):
        await bench.run(corrupt)
    assert bench.guard.up
    assert not bench.watch.failures


async def test_silence_is_an_outage(bench: BreakerHarness) -> None:
    """A call that takes too long ends in time, the store is down, and the next call is refused without being made."""
    bench.there.clear()
    started = time.monotonic()
    assert await bench.refused(silence) == "timeout"
    assert TIMEOUT * 0.9 < time.monotonic() - started < 2
    made = False

    async def next_call() -> None:
        nonlocal made
        made = True

    assert await bench.refused(next_call) == "down"
    assert not made
    assert bench.guard.trouble == "timeout"
    assert bench.watch.changes == [(REDIS, False, "timeout")]
    assert bench.watch.failures == {(REDIS, "timeout"): 1}


async def test_it_comes_back_by_itself(bench: BreakerHarness) -> None:
    """While the store is away it is asked in the background; when it answers, calls go through again, told once."""
    bench.there.clear()
    assert await bench.refused(fails) == "connection"
    async with asyncio.timeout(5):
        for _ in range(4):  # the first was at the start
            await bench.probes.acquire()
    assert not bench.guard.up
    bench.there.set()
    await bench.comes_back()
    assert await bench.run(seven) == 7
    assert bench.guard.trouble == ""
    assert bench.watch.changes == [(REDIS, False, "connection"), (REDIS, True, "")]


async def test_many_failures_are_one_change(bench: BreakerHarness) -> None:
    """Calls that fail together are each counted, but the store goes away once."""
    bench.there.clear()
    found = await asyncio.gather(bench.refused(silence), bench.refused(silence))
    assert list(found) == ["timeout", "timeout"]
    assert bench.watch.failures == {(REDIS, "timeout"): 2}
    assert bench.watch.changes == [(REDIS, False, "timeout")]


async def test_away_from_the_start() -> None:
    """A store that is not there at the start is refused at once, and used as soon as it was seen."""
    bench = BreakerHarness()
    bench.there.clear()
    await bench.guard.start()
    assert (bench.guard.up, bench.guard.seen) == (False, False)
    assert await bench.refused(seven) == "down"
    bench.there.set()
    await bench.comes_back()
    assert bench.guard.seen
    assert bench.watch.changes == [(REDIS, True, "")]
    assert await bench.run(seven) == 7
    await bench.guard.close()


async def test_a_full_house_is_no_outage() -> None:
    """Who finds no place before the deadline is refused as `busy`; the store stays up."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def stays() -> None:
        entered.set()
        await leave.wait()

    bench = BreakerHarness(places=1, timeout=5)
    await bench.guard.start()
    first = asyncio.create_task(bench.run(stays))
    await entered.wait()
    assert await bench.refused(seven, within=0.01) == "busy"
    second = asyncio.create_task(bench.run(seven))
    leave.set()
    assert await second == 7
    await first
    assert bench.guard.up
    assert bench.watch.failures == {(REDIS, "busy"): 1}
    await bench.guard.close()


async def test_our_deadline_is_no_outage(bench: BreakerHarness) -> None:
    """A caller without time left says nothing of the store."""
    assert await bench.refused(silence, within=TIMEOUT / 4) == "deadline"
    sent: list[str] = []

    async def call() -> None:
        sent.append("charged for nobody")

    assert await bench.refused(call, within=-1) == "deadline"
    assert not sent
    assert bench.guard.up
    assert not bench.watch.changes


@pytest.fixture
def wire() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def test_an_answer_that_lay_unread_is_taken(
    bench: BreakerHarness, wire: tuple[socket.socket, socket.socket]
) -> None:
    """Our loop was blocked beyond the time limit while the answer had arrived long before: no timeout of the store."""
    ours, theirs = wire
    loop = asyncio.get_running_loop()

    def block() -> None:
        theirs.send(b"+")
        time.sleep(TIMEOUT * 3)

    loop.call_later(TIMEOUT / 2, block)
    assert await bench.run(lambda: loop.sock_recv(ours, 1)) == b"+"
    assert bench.guard.up
    assert not bench.watch.failures


async def test_a_question_that_we_sent_late_has_its_time(wire: tuple[socket.socket, socket.socket]) -> None:
    """Our loop was blocked before the question left: the store then has its whole time to answer."""
    ours, theirs = wire
    loop = asyncio.get_running_loop()
    bench = BreakerHarness(timeout=0.05)
    await bench.guard.start()

    def store() -> None:
        theirs.recv(1)
        time.sleep(0.02)  # the store's own time, within its limit
        theirs.send(b"+")

    async def ask() -> bytes:
        await loop.sock_sendall(ours, b"?")
        return await loop.sock_recv(ours, 1)

    thread = threading.Thread(target=store)
    thread.start()
    loop.call_soon(time.sleep, 0.1)
    assert await bench.run(ask) == b"+"
    assert bench.guard.up
    thread.join()
    await bench.guard.close()


async def test_silence_is_believed_after_our_own_lateness(bench: BreakerHarness) -> None:
    """Where the store says nothing in its second time either, it is down, however late we were ourselves."""
    bench.there.clear()
    asyncio.get_running_loop().call_later(TIMEOUT / 2, time.sleep, TIMEOUT * 2)
    assert await bench.refused(silence) == "timeout"
    assert not bench.guard.up


@pytest.mark.parametrize("cancel", [True, False])
async def test_places_come_back(cancel: bool) -> None:
    """A cancelled call gives its place back at once; one that is left alone keeps it until it ends, then gives it."""
    bench = BreakerHarness(places=1, cancel=cancel)
    await bench.guard.start()
    release = asyncio.Event()

    async def hangs() -> None:
        await release.wait()

    assert await bench.refused(hangs) == "timeout"
    await bench.comes_back()
    if not cancel:
        assert await bench.refused(seven, within=0.01) == "busy"
        release.set()
    assert await bench.run(seven) == 7
    await bench.guard.close()


async def test_a_caller_who_leaves_gives_the_place_back() -> None:
    """A proxy that hangs up while waiting for a place, or for the store, keeps nothing from the next one."""
    bench = BreakerHarness(places=1, timeout=5)
    await bench.guard.start()
    inside, waiting = asyncio.create_task(bench.run(silence)), asyncio.create_task(bench.run(seven))
    await asyncio.sleep(0)
    for task in (waiting, inside):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert await bench.run(seven) == 7
    assert bench.guard.up
    await bench.guard.close()


@pytest.mark.parametrize("cancel", [True, False])
async def test_nothing_is_said_of_calls_left_alone(cancel: bool) -> None:
    """A call that nobody waits for any more may fail: asyncio has nothing to complain of."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    bench = BreakerHarness(cancel=cancel)
    await bench.guard.start()
    release = asyncio.Event()

    async def fails_late() -> None:
        try:
            await release.wait()
        finally:
            raise OSError("torn")

    assert await bench.refused(fails_late) == "timeout"
    release.set()
    for _ in range(3):
        await asyncio.sleep(0)
    await bench.guard.close()
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("cancel", [True, False])
async def test_close_leaves_nothing_running(cancel: bool) -> None:
    """Attempts in the background and calls that were left alone are over when the guard is closed."""
    watch = Watch()
    terms = CallPolicy(timeout=TIMEOUT, places=2, cancel=cancel)
    guard = CircuitBreaker(REDIS, terms=terms, probe=silence, observer=watch)
    others = asyncio.all_tasks()
    await guard.start()
    assert guard.trouble == "timeout"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await guard.close()
    assert asyncio.all_tasks() == others
