"""A guard in front of each store: a bounded wait, one memory of whether the store is away, and the way back."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any, TypeVar

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import Observer, Store

T = TypeVar("T")
Call = Callable[[], Coroutine[Any, Any, T]]

PROBE_EVERY = 0.25  # seconds between two attempts to reach a store that is away
WATCH_EVERY = 1.0  # seconds between two looks at one that is up, since perhaps nobody else asks
OUR_LATENESS = 0.005  # a timer that fires this many seconds late says that we were busy, not the store
SLICES = 8  # in which the time of one call is counted
LAST_LOOKS = 3  # passes of the loop in which an answer that has already arrived is read and understood

TOLD_MAX = 5  # different things that a store says in one outage

CANCEL_AGAIN = 0.1  # seconds

NOT_SEEN = "not seen yet"
UNREACHED = frozenset({NOT_SEEN, "connection", "timeout"})  # the store itself said nothing
OURS = frozenset({"busy", "changing", "deadline"})  # failures that say nothing of the store itself


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How one store is waited for.

    `timeout` seconds for one call; `places` bounds the calls under way. `cancel`: whether a call that took too long is
    cancelled (a Redis connection is then closed) or left alone to end (a PostgreSQL driver that is cancelled while its
    server hangs would wait on); who is left alone keeps its place. `hold`: seconds for which a store that had refused
    must take everything before it is told to be up, so that one which wavers is not told of again and again.
    """

    timeout: float
    places: int
    cancel: bool
    hold: float = 0.0


class CircuitBreaker:
    """Calls a store with a time limit; while the store is away, refuses at once and asks in the background.

    `probe` raises StoreUnavailable while the store is not fit for use. `trouble` is why the store counts as away, empty
    where it does not: a store that wavers is used whenever it is `up`, and is in trouble until that lasts.
    """

    def __init__(self, store: Store, *, terms: CallPolicy, probe: Call[None], observer: Observer) -> None:
        self.store = store
        self.up = False
        self.seen = False
        self.trouble = NOT_SEEN
        self.detail = NOT_SEEN  # the same with the store's own words
        self._told: set[str] = set()  # of the outage under way
        self._terms = terms
        self._places = asyncio.Semaphore(terms.places)
        self._probe = probe
        self._observer = observer
        self._recovery: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._doubt: asyncio.Task[None] | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._told_up = False
        self._left_alone: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """One attempt to reach the store; from then on it is looked after in the background."""
        try:
            await self._attempt()
        except StoreUnavailable as error:
            self._gone(error)
        self._watch = asyncio.create_task(self._keep_watch(), name=f"watch {self.store}")

    async def close(self) -> None:
        """End the background attempts and the calls that were left alone."""
        if self._settling is not None:
            self._settling.cancel()
        background = [task for task in (self._watch, self._recovery, self._doubt) if task is not None]
        await end(background)
        await end(self._left_alone)  # in this order: an attempt that is cancelled may be left alone

    async def run(self, call: Call[T], deadline: float = inf) -> T:
        """The result of `call()`, awaited for the store's time limit but not beyond `deadline` (monotonic seconds).

        Raises StoreUnavailable, at once while the store is known to be away.
        """
        if not self.up:
            raise StoreUnavailable(self.store, "down")
        try:
            await self._take_place(deadline)
            left = deadline - monotonic()
            if left <= 0:  # what is asked now would be done, and charged, for nobody
                self._places.release()
                raise StoreUnavailable(self.store, "deadline")
            task = asyncio.create_task(call())
            task.add_done_callback(self._leave_place)
            if left < self._terms.timeout:
                return await self._within(task, left, "deadline")
            return await self._within(task, self._terms.timeout, "timeout")
        except StoreUnavailable as error:
            self.failed(error)
            raise

    @property
    def timeout(self) -> float:
        """Seconds that one call may take."""
        return self._terms.timeout

    def failed(self, error: StoreUnavailable) -> None:
        """A call has failed: the store counts as away where that says something of it."""
        self._observer.store_failed(self.store, error.reason)
        if error.reason not in OURS:
            self._gone(error)

    def doubt(self) -> None:
        """Looks at the store at once, without waiting: a call went through, and a part of it was refused."""
        if self.up and (self._doubt is None or self._doubt.done()):
            self._doubt = asyncio.create_task(self._look_again(), name=f"doubt {self.store}")

    async def _take_place(self, deadline: float) -> None:
        """Waiting for our own turn is not the store's lateness: only the deadline bounds it."""
        if not self._places.locked():
            await self._places.acquire()
            return
        # Not by asyncio.timeout, which wants a task: some checks are run without one.
        place = asyncio.create_task(self._places.acquire())
        place.add_done_callback(self._forget)
        try:
            await asyncio.wait({place}, timeout=None if deadline == inf else max(deadline - monotonic(), 0))
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._places.release()
            raise
        finally:
            place.cancel()
        if not place.done():
            raise StoreUnavailable(self.store, "busy" if self.up else "down")

    def _leave_place(self, _: asyncio.Task[Any]) -> None:
        self._places.release()

    async def _look(self) -> None:
        await self._within(asyncio.create_task(self._probe()), self._terms.timeout, "timeout")

    async def _attempt(self) -> None:
        await self._look()
        self.up = self.seen = True
        if self.trouble in UNREACHED or not self._terms.hold:
            self._settled()
        else:
            self._settling = asyncio.get_running_loop().call_later(self._terms.hold, self._settled)

    def _settled(self) -> None:
        self.trouble, self.detail, self._told_up = "", "", True
        self._told.clear()
        self._observer.store_changed(self.store, up=True, reason="")

    def _gone(self, error: StoreUnavailable) -> None:
        reason = error.reason
        self.up, self.trouble, self.detail = False, reason, error.detail
        if self._settling is not None:
            self._settling.cancel()
        if self._told_up:
            self._told_up = False
            self._observer.store_changed(self.store, up=False, reason=reason)
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.create_task(self._recover(), name=f"recover {self.store}")

    def _tell(self, error: StoreUnavailable) -> None:
        """Says once in an outage what the store says of itself, or that it was never seen."""
        new = error.detail not in self._told and len(self._told) < TOLD_MAX
        if new and (error.said or not self.seen):
            self._told.add(error.detail)
            self._observer.store_unfit(error)

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            if self.up:
                await self._look_again()

    async def _look_again(self) -> None:
        try:
            await self._look()
        except StoreUnavailable as error:
            if error.reason not in OURS:
                self._gone(error)

    async def _recover(self) -> None:
        while not self.up:
            try:
                await self._attempt()
            except StoreUnavailable as error:
                self.trouble, self.detail = error.reason, error.detail
                self._tell(error)
                await asyncio.sleep(PROBE_EVERY)

    async def _within(self, task: asyncio.Task[T], seconds: float, reason: str) -> T:
        """The task's result; where it took too long, StoreUnavailable(reason). Our own lateness is not the store's."""
        try:
            await wait_in_slices(task, seconds)
            for _ in range(LAST_LOOKS):
                if not task.done():
                    await asyncio.sleep(0)
        finally:
            if task.done():
                self._forget(task)  # where we are cancelled ourselves, nobody asks for its failure
            else:
                self._abandon(task)
        if not task.done() or task.cancelled():
            raise StoreUnavailable(self.store, reason)
        return task.result()

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        """Nobody waits for this call any more; its outcome is unknown and its error nobody's."""
        self._left_alone.add(task)
        task.add_done_callback(self._forget)
        if self._terms.cancel:
            task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._left_alone.discard(task)
        if not task.cancelled():
            task.exception()


async def wait_in_slices(task: "asyncio.Future[Any]", seconds: float) -> None:
    """Returns when `task` is done, or had `seconds` of a loop that is not late.

    What a slice took beyond its length does not count, because a call may have been sent late then, or its answer lie
    unread. A call takes several turns of the loop, and in a crowd of requests one of them may be longer than `seconds`.
    """
    left = seconds
    while left > 0 and not task.done():
        due, begun = min(left, seconds / SLICES), monotonic()
        await asyncio.wait({task}, timeout=due)
        took = monotonic() - begun
        left -= took if took - due <= OUR_LATENESS else due


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they are over: some, when cancelled, wait on for a hung server until cancelled again."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
