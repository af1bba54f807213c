"""At most one line a second of each kind: what clients or an outage can cause at will must not fill a disk."""

import threading
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog

Event = MutableMapping[str, Any]

SECONDS = 1.0
KINDS_MAX = 256
MESSAGE_CHARACTERS = 40  # of a library's message; further on it may name addresses and numbers

# Bounded by what they tell of: a start, an end, a worker that is started again after a pause, a quota of a day.
UNLIMITED = frozenset(
    {
        "listening",
        "serving",
        "draining",
        "stopped",
        "worker_restarted",
        "quota_threshold_passed",
        "setting_without_effect",
    }
)
# Opposite states are one kind, because the newest is what holds.
STATES = {
    "store_away": "store",
    "store_up": "store",
    "change_messages_arrive": "feed",
    "change_messages_missing": "feed",
    "redis_epoch_known": "epoch",
    "redis_epoch_unknown": "epoch",
    "redis_evicts": "eviction",
    "redis_no_longer_evicts": "eviction",
}
OTHERS = ("others",)  # one kind for all that come while too many are kept
_PARTS = ("store", "what", "work", "logger", "error", "signal")


@dataclass(slots=True)
class _Kind:
    """When the last line of a kind was let through, and what came since."""

    at: float
    newest: Event | None = None
    held: int = 0


class LogLimit:
    """A structlog processor. The first event of a kind passes at once; of those that follow within a second the newest
    is kept for `due`, with the number of the others as `suppressed`.
    """

    def __init__(self, *, holds: Callable[[], None] = lambda: None, clock: Callable[[], float] = monotonic) -> None:
        """`holds` is called when there is something for `due` that was not there before."""
        self._holds = holds
        self._clock = clock
        self._kinds: OrderedDict[tuple[object, ...], _Kind] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, _: object, __: str, event: Event) -> Event:
        """The event, if it may pass now; raises DropEvent if not."""
        if event.get("event") in UNLIMITED:
            return event
        now, key = self._clock(), kind_of(event)
        with self._lock:
            if key not in self._kinds and not self._has_room(now):
                key = OTHERS
            kind = self._kinds.get(key)
            if kind is None:
                self._kinds[key] = _Kind(now)
                return event
            if kind.held == 0 and now - kind.at >= SECONDS:
                kind.at = now
                self._kinds.move_to_end(key)
                return event
            first = kind.held == 0
            kind.newest = event
            kind.held += 1
        if first:
            self._holds()
        raise structlog.DropEvent

    def due(self, *, everything: bool = False) -> tuple[list[Event], float | None]:
        """The held events whose second is over, and after how many seconds the next one's is; None: there is none."""
        now, passed, waits = self._clock(), [], []
        with self._lock:
            for kind in self._kinds.values():
                if kind.newest is None:
                    continue
                wait = kind.at + SECONDS - now
                if wait > 0 and not everything:
                    waits.append(wait)
                    continue
                passed.append(_with_count(kind.newest, kind.held - 1))
                kind.at, kind.newest, kind.held = now, None, 0
        passed.sort(key=lambda event: str(event.get("timestamp", "")))
        return passed, min(waits, default=None)

    def _has_room(self, now: float) -> bool:
        """Whether one more kind can be kept, perhaps in place of one whose second is over and that holds nothing."""
        if len(self._kinds) < KINDS_MAX:
            return True
        over = (key for key, kind in self._kinds.items() if kind.newest is None and now - kind.at >= SECONDS)
        quiet = next(over, None)
        if quiet is not None:
            del self._kinds[quiet]
        return quiet is not None


def _with_count(event: Event, others: int) -> Event:
    return {**event, "suppressed": others} if others else event


def kind_of(event: Event) -> tuple[object, ...]:
    """What makes two events one kind."""
    name = event.get("event")
    bug = event.get("exc_info")
    return (
        STATES.get(str(name), name),
        *(event.get(part) for part in _PARTS),
        str(event.get("message", "")).partition("\n")[0][:MESSAGE_CHARACTERS],
        type(bug[1] if isinstance(bug, tuple) else bug),
    )
