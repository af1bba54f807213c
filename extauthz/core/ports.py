"""The protocols that the outside must fit. Every method may raise StoreUnavailable; reads may raise StoreCorrupt."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from extauthz.core.changes import Change
from extauthz.core.decision import Decision
from extauthz.core.errors import StoreCorrupt
from extauthz.core.spend import Spend, Spent

Store = Literal["postgresql", "redis"]
POSTGRESQL: Store = "postgresql"
REDIS: Store = "redis"

Cache = Literal["api_key", "tenant_quota"]
Layer = Literal["process", "redis"]


Asked_contra = TypeVar("Asked_contra", contravariant=True)
Record_co = TypeVar("Record_co", covariant=True)
Record = TypeVar("Record")


class Source(Protocol[Asked_contra, Record_co]):
    """Where records are kept for good: keys by their credential, organizations by their id."""

    @property
    def at_once(self) -> int:
        """How many may be asked for in one call that is not to take long."""
        ...

    async def find(self, asked: Sequence[Asked_contra], now: float) -> "Sequence[Record_co | StoreCorrupt | None]":
        """One answer for each of `asked`, all of one read: the record, what makes no sense in it, or None.

        `now` (Unix seconds, before the read) becomes the `loaded_at` of the records.
        """
        ...


class SharedCache(Protocol[Asked_contra, Record]):
    """Records for their seconds after they were read from where they are kept for good, for all processes.

    What is returned knows of every change whose fence was raised here; reads may raise StoreCorrupt.
    """

    async def get(self, asked: Asked_contra, now: float) -> Record | None:
        """The cached record, if it is not too old at `now`."""
        ...

    async def put(self, record: Record, now: float) -> None:
        """Keep `record` for what is left of its time, unless a younger one is there; a revoked key stays revoked."""
        ...


class SharedFences(Protocol):
    """The fences that all processes respect, for as long as an older record can be anywhere."""

    async def raise_all(self, changes: Sequence[Change]) -> None:
        """From now on older records of these things are not returned. Raises StoreUnavailable."""
        ...


class ChangeFeed(Protocol):
    """Where PostgreSQL tells what changed, whoever changed it."""

    async def follow(self, hear: Callable[[Change], None], flowing: Callable[[bool], None]) -> None:
        """Calls `hear` for each change, until cancelled; `flowing` says when messages arrive and when they do not.

        Changes of the time before `flowing(True)` that may matter were heard by then.
        """
        ...


class UseLog(Protocol):
    """Where it is kept when keys were used."""

    async def used(self, times: Mapping[str, float]) -> Collection[str]:
        """Notes the last use (Unix seconds) of each key, by id; an older one changes nothing.

        Returns the keys that somebody else is changing at this moment: they have to be noted again.
        """
        ...


class LimitStore(Protocol):
    """Where buckets and counters are kept."""

    async def spend(self, tenant_id: str, asked: Spend) -> Spent:
        """One atomic step: refill, check every limit, take from all of them or from none. Never sent twice."""
        ...


class Observer(Protocol):
    """What telemetry is told. None of it waits, and none of it sees a credential."""

    def decided(self, dialect: str, decision: Decision, seconds: float) -> None:
        """A check was answered, `seconds` after it arrived."""
        ...

    def cache_read(self, cache: Cache, layer: Layer | None) -> None:
        """A record was found in a layer; None: in none, so that PostgreSQL was read."""
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

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        """A store went away (and why), or came back."""
        ...
