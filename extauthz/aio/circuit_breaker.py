"""A circuit breaker: bounded waits, one memory of whether a dependency is away, and the way back to it."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from extauthz.aio.tasks import TaskSet, cancel_until_done, ignore_error, result_or_abandon

T = TypeVar("T")
Name = TypeVar("Name", bound=str)
Call = Callable[[], Coroutine[Any, Any, T]]

REPORTED_MAX = 5  # different messages of a dependency that are reported in one outage


class Origin(Enum):
    """What a failure says of the dependency."""

    CALLER = "caller"  # nothing: the caller had no time left, or too many calls waited
    NETWORK = "network"  # it was not reached, or gave no answer
    DEPENDENCY = "dependency"  # it answered, and is not fit for use


class Failure(NamedTuple):
    """A classified exception. `reason` is a short word, `detail` adds what the dependency itself says."""

    reason: str
    detail: str
    origin: Origin


NOT_SEEN = Failure("not seen yet", "not seen yet", Origin.NETWORK)


class Failures(Protocol):
    """How failures of one dependency are classified and raised."""

    def classify(self, error: Exception) -> Failure | None:
        """Classify an exception that a call raised; None for one that is a bug, and passes through the breaker."""
        ...

    def refusal(self, reason: str) -> Exception:
        """Make the exception of a call that the breaker ends or refuses: `down`, `timeout`, `deadline`, `busy`."""
        ...


class BreakerObserver(Protocol):
    """What is told of the dependency of one breaker."""

    def call_failed(self, reason: str) -> None:
        """A call has failed."""
        ...

    def state_changed(self, *, up: bool, reason: str) -> None:
        """The dependency went away, or came back."""
        ...

    def unfit(self, error: Exception) -> None:
        """An attempt to reach the dependency failed for a reason that was not reported in this outage yet."""
        ...


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How calls of one dependency are bounded; times in seconds.

    `timeout` is for one call, `max_concurrency` for the calls under way. `cancel`: whether a call that takes too long
    is cancelled (a Redis connection is then closed) or left to end (a PostgreSQL driver that is cancelled while its
    server hangs would wait on), and counts as under way until then. `hold`: how long a dependency that had refused must
    answer every call before it is reported to be up, so that an unsteady one is not reported again and again. While
    it is away, it is probed every `probe_interval`; while it is up, every `watch_interval`, because nothing else
    may call it.
    """

    timeout: float
    max_concurrency: int
    cancel: bool
    hold: float = 0.0
    probe_interval: float = 0.25
    watch_interval: float = 1.0


class CircuitBreaker(Generic[Name]):
    """Calls a dependency with a time limit; refuses calls at once while it is away, and probes it in the background.

    `probe` raises a failure while the dependency is not fit for use. `up`: calls are let through. `seen`: it was up
    before.
    """

    def __init__(
        self, name: Name, *, policy: CallPolicy, probe: Call[None], failures: Failures, observer: BreakerObserver
    ) -> None:
        self.name = name
        self.up = False
        self.seen = False
        self._failure: Failure | None = NOT_SEEN
        self._reported: set[str] = set()  # details, of the outage under way
        self._reported_up = False
        self._policy = policy
        self._slots = asyncio.Semaphore(policy.max_concurrency)
        self._probe = probe
        self._failures = failures
        self._observer = observer
        self._recovery: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._extra_probe: asyncio.Task[None] | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._abandoned = TaskSet()

    @property
    def trouble(self) -> str:
        """Why the dependency counts as away; empty where it does not.

        An unsteady one is used whenever it is `up`, and in trouble until it stays so for `CallPolicy.hold`.
        """
        return "" if self._failure is None else self._failure.reason

    @property
    def detail(self) -> str:
        """The same with the dependency's own words."""
        return "" if self._failure is None else self._failure.detail

    @property
    def timeout(self) -> float:
        """Seconds that one call may take."""
        return self._policy.timeout

    async def start(self) -> None:
        """Try once to reach the dependency; from then on it is looked after in the background."""
        found = await self._probe_failure()
        if found is None:
            self._came_up()
        else:
            self._went_away(found[1])
        self._watch = asyncio.create_task(self._keep_watch(), name=f"watch {self.name}")

    async def close(self) -> None:
        """End the background attempts and the abandoned calls."""
        if self._settling is not None:
            self._settling.cancel()
        background = (self._watch, self._recovery, self._extra_probe)
        await cancel_until_done([task for task in background if task is not None])
        await self._abandoned.close()  # in this order, because a probe that is cancelled may be abandoned

    async def run(self, call: Call[T], deadline: float = inf) -> T:
        """Return the result of `call()`, awaited for the policy's timeout, not beyond `deadline` (monotonic seconds).

        Raises `Failures.refusal`, at once while the dependency is away, and what the call raises.
        """
        if not self.up:
            raise self._failures.refusal("down")
        try:
            await self._take_slot(deadline)
            left = deadline - monotonic()
            if left <= 0:  # the caller no longer waits; a spend, for example, would be charged for nothing
                self._slots.release()
                raise self._failures.refusal("deadline")
            task = asyncio.create_task(call())
            task.add_done_callback(self._free_slot)
            if left < self._policy.timeout:
                return await self._result(task, left, "deadline")
            return await self._result(task, self._policy.timeout, "timeout")
        except Exception as error:
            self.failed(error)
            raise

    def failed(self, error: Exception) -> None:
        """Note that a call has failed: the dependency counts as away where the failure is its own."""
        failure = self._failures.classify(error)
        if failure is not None:
            self._observer.call_failed(failure.reason)
            if failure.origin is not Origin.CALLER:
                self._went_away(failure)

    def probe_soon(self) -> None:
        """Probe the dependency in the background now: a call went through, and a part of it was refused."""
        if self.up and (self._extra_probe is None or self._extra_probe.done()):
            self._extra_probe = asyncio.create_task(self._look_again(), name=f"probe {self.name}")

    async def _take_slot(self, deadline: float) -> None:
        """Wait for a slot, bounded by the deadline alone: this wait is not the dependency's lateness."""
        if not self._slots.locked():
            await self._slots.acquire()
            return
        # Not by asyncio.timeout, which wants a task: some checks are run without one.
        slot = asyncio.create_task(self._slots.acquire())
        slot.add_done_callback(ignore_error)
        try:
            await asyncio.wait({slot}, timeout=None if deadline == inf else max(deadline - monotonic(), 0))
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self._slots.release()
            raise
        finally:
            slot.cancel()
        if not slot.done():
            raise self._failures.refusal("busy" if self.up else "down")

    def _free_slot(self, _: asyncio.Task[Any]) -> None:
        self._slots.release()

    async def _result(self, task: asyncio.Task[T], seconds: float, reason: str) -> T:
        late = partial(self._failures.refusal, reason)
        try:
            return await result_or_abandon(task, seconds, late=late, cancel=self._policy.cancel)
        finally:
            if not task.done():
                self._abandoned.keep(task)

    async def _probe_failure(self) -> tuple[Exception, Failure] | None:
        """Probe the dependency; return why it is not fit for use, None where it is. Raises a bug."""
        try:
            await self._result(asyncio.create_task(self._probe()), self._policy.timeout, "timeout")
        except Exception as error:
            failure = self._failures.classify(error)
            if failure is None:
                raise
            return error, failure
        return None

    def _came_up(self) -> None:
        self.up = self.seen = True
        if self._failure is None or self._failure.origin is Origin.NETWORK or not self._policy.hold:
            self._settled()
        else:
            self._settling = asyncio.get_running_loop().call_later(self._policy.hold, self._settled)

    def _settled(self) -> None:
        self._failure, self._reported_up = None, True
        self._reported.clear()
        self._observer.state_changed(up=True, reason="")

    def _went_away(self, failure: Failure) -> None:
        self.up, self._failure = False, failure
        if self._settling is not None:
            self._settling.cancel()
        if self._reported_up:
            self._reported_up = False
            self._observer.state_changed(up=False, reason=failure.reason)
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.create_task(self._recover(), name=f"recover {self.name}")

    def _report(self, error: Exception, failure: Failure) -> None:
        """Report once in an outage what the dependency itself says, or that it was never seen."""
        new = failure.detail not in self._reported and len(self._reported) < REPORTED_MAX
        if new and (failure.detail != failure.reason or not self.seen):
            self._reported.add(failure.detail)
            self._observer.unfit(error)

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(self._policy.watch_interval)
            if self.up:
                await self._look_again()

    async def _look_again(self) -> None:
        found = await self._probe_failure()
        if found is not None and found[1].origin is not Origin.CALLER:
            self._went_away(found[1])

    async def _recover(self) -> None:
        while not self.up:
            found = await self._probe_failure()
            if found is None:
                self._came_up()
                return
            error, self._failure = found
            self._report(error, self._failure)
            await asyncio.sleep(self._policy.probe_interval)
