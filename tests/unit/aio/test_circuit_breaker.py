"""The circuit breaker: which failures open it, what it reports, how calls are bounded, how it closes again."""

import asyncio
import gc
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Any

import pytest

from extauthz.aio.circuit_breaker import Call, CallPolicy, CircuitBreaker, Failure, Origin
from tests.servers.waiting import until

TIMEOUT = 0.02  # seconds
ORIGINS = {"deadline": Origin.CALLER, "busy": Origin.CALLER, "full": Origin.DEPENDENCY}


class Refused(Exception):
    """A failure of the dependency, for a reason."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


class Failures:
    """Classifies Refused; every other exception is a bug."""

    def classify(self, error: Exception) -> Failure | None:
        if not isinstance(error, Refused):
            return None
        return Failure(error.reason, ": ".join(error.args), ORIGINS.get(error.reason, Origin.NETWORK))

    def refusal(self, reason: str) -> Exception:
        return Refused(reason)


class Observer:
    """Records its events."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.changes: list[tuple[bool, str]] = []
        self.unfit_details: list[str] = []
        self.back = asyncio.Event()

    def call_failed(self, reason: str) -> None:
        self.failures[reason] += 1

    def state_changed(self, *, up: bool, reason: str) -> None:
        self.changes.append((up, reason))
        if up:
            self.back.set()
        else:
            self.back.clear()

    def unfit(self, error: Exception) -> None:
        self.unfit_details.append(": ".join(error.args))


class Harness:
    """A breaker, and a dependency whose probe raises `error` while it has one."""

    def __init__(self, *, probe: Call[None] | None = None, **policy: Any) -> None:
        self.observer = Observer()
        self.error: Exception | None = None
        self.probes = asyncio.Semaphore(0)
        policy = {"timeout": TIMEOUT, "max_concurrency": 2, "cancel": True, "probe_interval": 0.001} | policy
        self.breaker = CircuitBreaker(
            "store",
            policy=CallPolicy(**policy),
            probe=probe or self._probe,
            failures=Failures(),
            observer=self.observer,
        )

    async def _probe(self) -> None:
        self.probes.release()
        if self.error is not None:
            raise self.error

    async def probed(self, times: int) -> None:
        """Return after so many probes."""
        async with asyncio.timeout(5):
            for _ in range(times):
                await self.probes.acquire()

    async def run(self, call: Callable[[], Any], *, within: float = 5) -> Any:
        return await self.breaker.run(call, time.monotonic() + within)

    async def refused(self, call: Callable[[], Any], *, within: float = 5) -> str:
        """The reason of a call that fails."""
        with pytest.raises(Refused) as caught:
            await self.run(call, within=within)
        return caught.value.reason

    async def comes_back(self) -> None:
        """Return when the dependency is reported to be up."""
        async with asyncio.timeout(5):
            await self.observer.back.wait()


@asynccontextmanager
async def opened(**policy: Any) -> AsyncIterator[Harness]:
    """A breaker whose dependency was seen."""
    harness = Harness(**policy)
    await harness.breaker.start()
    assert harness.observer.changes == [(True, "")]
    harness.observer.changes.clear()
    try:
        yield harness
    finally:
        await harness.breaker.close()


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    async with opened() as made:
        yield made


async def seven() -> int:
    return 7


async def silence() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise Refused("connection")


async def test_result_and_bug_pass_through(harness: Harness) -> None:
    """The result of a call is returned; a bug does not open the breaker."""

    async def bug() -> None:
        raise LookupError

    assert await harness.run(seven) == 7
    with pytest.raises(LookupError):
        await harness.run(bug)
    assert harness.breaker.up
    assert not harness.observer.failures


async def test_timeout_opens_the_breaker(harness: Harness) -> None:
    """A call that takes too long fails, and the next call is refused without being made."""
    harness.error = Refused("connection")
    assert await harness.refused(silence) == "timeout"
    made = False

    async def next_call() -> None:
        nonlocal made
        made = True

    assert await harness.refused(next_call) == "down"
    assert not made
    assert harness.breaker.trouble == "timeout"
    assert harness.observer.changes == [(False, "timeout")]
    assert harness.observer.failures == {"timeout": 1}


async def test_probes_close_the_breaker(harness: Harness) -> None:
    """While the dependency is away it is probed in the background; calls go through again after a good probe."""
    harness.error = Refused("connection")
    assert await harness.refused(fails) == "connection"
    await harness.probed(4)  # the first was at the start
    assert not harness.breaker.up
    harness.error = None
    await harness.comes_back()
    assert await harness.run(seven) == 7
    assert harness.breaker.trouble == harness.breaker.detail == ""
    assert harness.observer.changes == [(False, "connection"), (True, "")]


async def test_simultaneous_failures_are_one_outage(harness: Harness) -> None:
    """Calls that fail together are each counted, but the dependency goes away once."""
    harness.error = Refused("connection")
    assert set(await asyncio.gather(harness.refused(silence), harness.refused(silence))) == {"timeout"}
    assert harness.observer.failures == {"timeout": 2}
    assert harness.observer.changes == [(False, "timeout")]


async def test_dependency_that_is_away_at_the_start() -> None:
    """Calls are refused until the dependency was seen, and it is reported once that it was not."""
    harness = Harness()
    harness.error = Refused("connection")
    await harness.breaker.start()
    assert (harness.breaker.up, harness.breaker.seen) == (False, False)
    assert await harness.refused(seven) == "down"
    await harness.probed(4)
    assert harness.observer.unfit_details == ["connection"]
    harness.error = None
    await harness.comes_back()
    assert harness.breaker.seen
    assert harness.observer.changes == [(True, "")]
    assert await harness.run(seven) == 7
    await harness.breaker.close()


async def test_each_message_is_reported_once_in_an_outage(harness: Harness) -> None:
    """Of a dependency that was seen, its own words are reported, not that it cannot be reached."""
    harness.error = Refused("connection")
    assert await harness.refused(fails) == "connection"
    await harness.probed(4)
    harness.error = Refused("full", "no space left")
    await harness.probed(4)
    assert harness.observer.unfit_details == ["full: no space left"]
    assert (harness.breaker.trouble, harness.breaker.detail) == ("full", "full: no space left")


async def test_unsteady_dependency_is_used_and_not_reported_again() -> None:
    """After a refusal, the dependency is up once it answers, but reported to be up only after it held."""
    async with opened(hold=3600.0) as harness:
        harness.error = Refused("full")
        await harness.breaker.start()  # probes at once
        assert harness.observer.changes == [(False, "full")]
        harness.error = None
        await harness.probed(4)
        await until(lambda: harness.breaker.up)
        assert await harness.run(seven) == 7
        assert harness.breaker.trouble == "full"
        assert harness.observer.changes == [(False, "full")]


async def test_a_refused_part_of_a_call_is_probed(harness: Harness) -> None:
    """`probe_soon` opens the breaker of a dependency that is no longer fit for use."""
    harness.error = Refused("full")
    harness.breaker.probe_soon()
    await harness.probed(3)  # at the start, soon, and for the way back
    assert harness.observer.changes == [(False, "full")]


async def test_idle_dependency_is_watched() -> None:
    """A dependency that goes away is found without a call."""
    async with opened(watch_interval=0.001) as harness:
        harness.error = Refused("connection")
        await harness.probed(4)
        assert harness.observer.changes == [(False, "connection")]


async def test_too_many_calls_do_not_open_the_breaker() -> None:
    """A call that finds no slot before its deadline is refused as `busy`; the dependency stays up."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def stays() -> None:
        entered.set()
        await leave.wait()

    async with opened(max_concurrency=1, timeout=5.0) as harness:
        first = asyncio.create_task(harness.run(stays))
        await entered.wait()
        assert await harness.refused(seven, within=0.01) == "busy"
        second = asyncio.create_task(harness.run(seven))
        leave.set()
        assert await second == 7
        await first
        assert harness.breaker.up
        assert harness.observer.failures == {"busy": 1}


async def test_passed_deadline_does_not_open_the_breaker(harness: Harness) -> None:
    """A caller without time left proves nothing about the dependency, and its call is not made."""
    assert await harness.refused(silence, within=TIMEOUT / 4) == "deadline"
    made = False

    async def call() -> None:
        nonlocal made
        made = True

    assert await harness.refused(call, within=-1) == "deadline"
    assert not made
    assert harness.breaker.up
    assert not harness.observer.changes


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def test_result_that_lay_unread_is_taken(harness: Harness, wire: tuple[socket.socket, socket.socket]) -> None:
    """No timeout where the loop was blocked beyond the time limit while the result had arrived before."""
    ours, theirs = wire
    loop = asyncio.get_running_loop()

    def block() -> None:
        theirs.send(b"+")
        time.sleep(TIMEOUT * 3)

    loop.call_later(TIMEOUT / 2, block)
    assert await harness.run(lambda: loop.sock_recv(ours, 1)) == b"+"
    assert harness.breaker.up
    assert not harness.observer.failures


async def test_call_that_was_sent_late_has_its_whole_time(wire: tuple[socket.socket, socket.socket]) -> None:
    """No timeout where the loop was blocked before the call was sent."""
    ours, theirs = wire
    loop = asyncio.get_running_loop()

    def store() -> None:
        theirs.recv(1)
        time.sleep(0.02)  # the store's own time, within its limit
        theirs.send(b"+")

    async def ask() -> bytes:
        await loop.sock_sendall(ours, b"?")
        return await loop.sock_recv(ours, 1)

    async with opened(timeout=0.05) as harness:
        thread = threading.Thread(target=store)
        thread.start()
        loop.call_soon(time.sleep, 0.1)
        assert await harness.run(ask) == b"+"
        assert harness.breaker.up
        thread.join()


async def test_silence_after_a_blocked_loop_is_a_timeout(harness: Harness) -> None:
    """A call without a result ends in time, although the loop was late as well."""
    harness.error = Refused("connection")
    asyncio.get_running_loop().call_later(TIMEOUT / 2, time.sleep, TIMEOUT * 2)
    assert await harness.refused(silence) == "timeout"
    assert not harness.breaker.up


@pytest.mark.parametrize("cancel", [True, False])
async def test_slots_are_freed(cancel: bool) -> None:
    """A cancelled call frees its slot at once; one that is left to end keeps the slot until then."""
    async with opened(max_concurrency=1, cancel=cancel) as harness:
        release = asyncio.Event()
        assert await harness.refused(release.wait) == "timeout"
        await harness.comes_back()
        if not cancel:
            assert await harness.refused(seven, within=0.01) == "busy"
            release.set()
        assert await harness.run(seven) == 7


async def test_cancelled_caller_frees_its_slot() -> None:
    """A caller that is cancelled while it waits for a slot, or for the result, keeps nothing."""
    async with opened(max_concurrency=1, timeout=5.0) as harness:
        inside, waiting = (asyncio.create_task(harness.breaker.run(call, inf)) for call in (silence, seven))
        await asyncio.sleep(0)
        for task in (waiting, inside):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert await harness.run(seven) == 7
        assert harness.breaker.up


@pytest.mark.parametrize("cancel", [True, False])
async def test_error_of_an_abandoned_call_is_not_logged(cancel: bool) -> None:
    """A call may fail after its caller was refused; asyncio logs nothing."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    release, failed = asyncio.Event(), asyncio.Event()

    async def fails_late() -> None:
        try:
            await release.wait()
        finally:
            failed.set()
            raise OSError("torn")

    async with opened(cancel=cancel) as harness:
        assert await harness.refused(fails_late) == "timeout"
        release.set()
        await failed.wait()
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("cancel", [True, False])
async def test_close_leaves_no_task(cancel: bool) -> None:
    """Probes in the background and abandoned calls are over when the breaker is closed."""
    harness = Harness(probe=silence, cancel=cancel)
    others = asyncio.all_tasks()
    await harness.breaker.start()
    assert harness.breaker.trouble == "timeout"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await harness.breaker.close()
    assert asyncio.all_tasks() == others
