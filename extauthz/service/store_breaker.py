"""Circuit breakers in front of PostgreSQL and Redis: how their failures are classified, raised and observed."""

from typing import TypeAlias

from extauthz.aio.circuit_breaker import Call, CallPolicy, CircuitBreaker, Failure, Origin
from extauthz.core.errors import StoreUnavailable
from extauthz.core.observers import Observer
from extauthz.core.ports import Store

StoreBreaker: TypeAlias = CircuitBreaker[Store]

OURS = frozenset({"busy", "changing", "deadline"})  # reasons of failures that say nothing of the store itself
UNREACHED = frozenset({"connection", "timeout"})  # those that are not an answer of the store


def store_breaker(store: Store, *, policy: CallPolicy, probe: Call[None], observer: Observer) -> StoreBreaker:
    """Build the circuit breaker of a store. `probe` raises StoreUnavailable while the store is not fit for use."""
    adapter = _StoreFailures(store, observer)
    return CircuitBreaker(store, policy=policy, probe=probe, failures=adapter, observer=adapter)


class _StoreFailures:
    """The failures of one store, and its observer."""

    def __init__(self, store: Store, observer: Observer) -> None:
        self._store: Store = store
        self._observer = observer

    def classify(self, error: Exception) -> Failure | None:
        """Classify StoreUnavailable; any other exception is a bug."""
        if not isinstance(error, StoreUnavailable):
            return None
        origin = Origin.DEPENDENCY
        if error.reason in OURS:
            origin = Origin.CALLER
        elif error.reason in UNREACHED:
            origin = Origin.NETWORK
        return Failure(error.reason, error.detail, origin)

    def refusal(self, reason: str) -> StoreUnavailable:
        """Make the exception of a call that the breaker ends or refuses."""
        return StoreUnavailable(self._store, reason)

    def call_failed(self, reason: str) -> None:
        """Count a failed call."""
        self._observer.store_failed(self._store, reason)

    def state_changed(self, *, up: bool, reason: str) -> None:
        """Report that the store went away, or came back."""
        self._observer.store_changed(self._store, up=up, reason=reason)

    def unfit(self, error: Exception) -> None:
        """Report why the store is not fit for use."""
        if isinstance(error, StoreUnavailable):
            self._observer.store_unfit(error)
