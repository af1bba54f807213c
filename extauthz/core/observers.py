"""The protocols of what is told of checks, charges and stores. None of it waits, and none of it raises."""

from collections.abc import Sequence
from typing import Protocol

from extauthz.core.check_result import CheckResult
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.ports import Cache, Layer, Store
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.spend import Row, Spend
from extauthz.core.trace import Trace
from extauthz.core.usage import QuotaEvent


class Meter(Protocol):
    """What is told of every answered spend of an organization. It does not wait."""

    def note(self, asked: Spend, row: Row, reason: Reason) -> None:
        """A spend was answered by `row`; `reason` is what was decided by it."""
        ...


class CheckObserver(Protocol):
    """What is told of every check. It never waits and never raises, and it sees no credential but in a request."""

    def decided(self, result: CheckResult) -> None:
        """A check was answered."""
        ...


class CheckWatcher(CheckObserver, Protocol):
    """A CheckObserver that may want every check whole, and at other times none."""

    @property
    def watching(self) -> bool:
        """Whether it does now."""
        ...


class DenialObserver(Protocol):
    """What is told of many denials at once. It never waits and never raises."""

    def denied(self, result: CheckResult, times: int, requests: Sequence[CheckRequest]) -> None:
        """The result of a check came so often in a span of five minutes; `requests` are the last of them."""
        ...


class CheckTally(Protocol):
    """What counts checks of one dialect that no observer is told of. It neither waits nor raises."""

    def limited(self, seconds: float, identified_after: float, tokens: int) -> None:
        """A check was allowed by its limits; `tokens` were taken from buckets. Times are those of CheckResult."""
        ...

    def refused(self, reason: Reason, seconds: float, identified_after: float) -> None:
        """A check was refused by its limits."""
        ...

    def decided(self, reason: Reason, seconds: float) -> None:
        """A check was answered without asking limits."""
        ...


class Tracing(Protocol):
    """What decides which checks are recorded, and begins their traces. It never waits."""

    def begin(self, traceparent: str) -> Trace | None:
        """The trace of a check that is to be recorded; `traceparent` is that of its request, empty without one."""
        ...


class Observer(Protocol):
    """What telemetry is told. None of it waits, and none of it sees a credential."""

    def cache_read(self, cache: Cache, layer: Layer | None, age: float | None, times: int = 1) -> None:
        """A record was found in a layer; None: in none, so that PostgreSQL was read. It was read there `age` seconds
        ago; None: there is no such record. `times`: so often, within a second.
        """
        ...

    def store_failed(self, store: Store, reason: str) -> None:
        """One call to a store failed."""
        ...

    def record_corrupt(self, error: StoreCorrupt) -> None:
        """One record of a store made no sense."""
        ...

    def messages_flow(self, flows: bool) -> None:
        """Messages of changes arrive from now on, or no longer."""
        ...

    def shadowed(self, reason: Reason) -> None:
        """What would have become of an allowed check if its limits were enforced."""
        ...

    def quota_threshold(self, event: QuotaEvent) -> None:
        """An organization has used so much of a quota; said once for each window."""
        ...

    def rejections_written(self, rows: int) -> None:
        """So many rows of refusals were written down."""
        ...

    def rejections_lost(self, refusals: int) -> None:
        """For so many refusals there was no room."""
        ...

    def limit_batch(self, checks: int) -> None:
        """The limits of so many checks are asked in one call."""
        ...

    def leased(self, operation: str, units: int) -> None:
        """Units were taken ahead (`take`, `more`) or given back (`close`)."""
        ...

    def usage_saved(self, seconds: float, *, complete: bool) -> None:
        """Charges are written down; it took so long. `complete`: all that were made before that."""
        ...

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        """A store went away (and why), or came back."""
        ...

    def store_unfit(self, error: StoreUnavailable) -> None:
        """What a store that is away says of itself; once in an outage."""
        ...

    def usage_kept(self, error: StoreUnavailable | None) -> None:
        """Usage cannot be written down, and waits where it was counted; None: it is written down again."""
        ...
