"""The protocols that the outside must fit. Every method may raise StoreUnavailable; reads may raise StoreCorrupt."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from extauthz.core.changes import Change
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.leases import LeaseAsk, Leased
from extauthz.core.rejections import Rejected
from extauthz.core.spend import NotApplied, Row, Spend, Spent
from extauthz.core.token_bucket import State
from extauthz.core.usage import Counted, CreditsUsed, QuotaEvent, Refused, Seed, Span, UsageBatch

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
        """One answer for each of `asked`, all of one read: the record, what is wrong with it, or None.

        `now` (Unix seconds, before the read) becomes the `loaded_at` of the records.
        """
        ...


class SharedCache(Protocol[Asked_contra, Record]):
    """Records for their seconds after they were read from where they are kept for good, for all processes.

    What is returned includes every change whose fence was raised here.
    """

    async def find(
        self, asked: Sequence[Asked_contra], now: float, *, ended: bool = False
    ) -> "Sequence[Record | StoreCorrupt | None]":
        """One answer for each of `asked`: the cached record, what is wrong with it, or None.

        A record that is too old at `now` is none, and (unless `ended`) so is one that has ended by then: a revoked key
        must not be refused sooner than an unknown one.
        """
        ...

    async def put(self, records: Sequence[Record], now: float) -> None:
        """Keeps each for what is left of its time, unless a younger one is there; a revoked key stays revoked."""
        ...


class SharedInvalidations(Protocol):
    """The fences that all processes respect, for as long as an older record can be anywhere."""

    async def raise_all(self, changes: Sequence[Change]) -> None:
        """From now on older records of these things are not returned. Raises StoreUnavailable."""
        ...


class ChangeFeed(Protocol):
    """Where PostgreSQL announces changes, of every writer."""

    async def follow(self, apply: Callable[[Change], None], flowing: Callable[[bool], None]) -> None:
        """Call `apply` for each change, until cancelled, and `flowing` when messages begin or cease to arrive.

        Changes of the time before `flowing(True)` that may matter have been applied by then.
        """
        ...


class UseLog(Protocol):
    """Where it is kept when keys were used."""

    async def used(self, times: Mapping[str, float]) -> Collection[str]:
        """Notes the last use (Unix seconds) of each key, by id; an older one changes nothing.

        Returns the keys that another transaction is changing at this moment: they have to be noted again.
        """
        ...


Mark = tuple[str, str]  # tenant and key that are about to be charged


class SpendCall(Protocol):
    """One call of a LimitStore under way. What is told to it neither waits nor raises."""

    def answered(self, now: int, results: "Sequence[Row | StoreUnavailable]") -> None:
        """One result for each that was asked, at `now` (microseconds of the store's clock).

        StoreUnavailable: that one's state could not be used, and nothing was taken.
        """
        ...

    def failed(self, error: StoreUnavailable) -> None:
        """The call failed, and all outcomes are unknown. Either this or `answered` is called, once."""
        ...

    def unmarked(self, error: StoreUnavailable) -> None:
        """The marks of the call were not set."""
        ...


class LimitStore(Protocol):
    """Where buckets and counters are kept."""

    async def connect(self) -> None:
        """Returns when calls can begin. Raises StoreUnavailable."""
        ...

    def begin(self, asked: "Sequence[Spend]", marks: Sequence[Mark], call: SpendCall) -> Callable[[], None] | None:
        """Spends all of `asked` in one call that `call` is told of later, each in one atomic step; never sent twice.

        Refill, check every limit, take from all of them or from none. `marks` are set before anything is charged, so
        that the counters of these are saved whatever becomes of the process. What is returned is to be called when the
        answer is not waited for any longer. None: `connect` has to be awaited first, and nothing happened.
        """
        ...

    async def spend(self, asked: "Sequence[Spend]") -> "Sequence[Spent | NotApplied | StoreUnavailable]":
        """The same in a call of its own, without marks."""
        ...

    async def seed(self, tenant_id: str, seeds: Sequence[Seed] | None) -> None:
        """Raises a tenant's counters to their seeds. None: PostgreSQL is away, and they begin with what is there."""
        ...


class LeaseStore(Protocol):
    """Where units of a spend can be taken ahead."""

    async def lease(self, asks: Sequence[LeaseAsk], marks: Sequence[Mark]) -> Sequence[Leased]:
        """One answer for each, in one call that is never sent twice; see core/lease_steps.py. `marks` as for `begin`.

        Raises StoreUnavailable; all outcomes are then unknown.
        """
        ...


class CounterReader(Protocol):
    """Reads counters where limits are kept, and leaves them as they are."""

    async def beginning(self, asked: Spend, seeds: Sequence[Seed]) -> State:
        """What the counters of an organization would begin with, by what is there and what is known of its keys."""
        ...


class UsageSource(Protocol):
    """What was counted where limits are kept, and waits to be saved."""

    async def mark(self, pairs: Sequence[tuple[str, str]]) -> None:
        """These (tenant, key) are about to be charged: their counters are to be saved."""
        ...

    async def read(self, at_most: int, position: int = 0) -> UsageBatch:
        """So many marks behind the first `position`, oldest first, with all that was counted of them."""
        ...

    async def acknowledge(self, batch: UsageBatch) -> int:
        """Removes marks of a saved batch that were not set again, and its old counters.

        Returns the position that the next batch begins at.
        """
        ...


class SaveUsage(Protocol):
    """What saves rows."""

    def __call__(self, counted: Sequence[Counted], credits_used: Sequence[CreditsUsed] = ()) -> Awaitable[None]:
        """Replaces those that are behind."""
        ...


class UsageStore(Protocol):
    """Where usage is kept for good."""

    async def seeds(self, wanted: Mapping[str, Sequence[Span]]) -> Mapping[str, Sequence[Seed]]:
        """What is known of spans, and of credits, by tenant; all in one query."""
        ...

    def exclusive_saver(self) -> AbstractAsyncContextManager[SaveUsage | None]:
        """What saves rows while no other worker does; None while another one saves. The end of the block commits.

        A row is replaced where its `revision` is higher than the stored one, and of credits where more is used, so that
        saving twice changes nothing.
        """
        ...

    async def add_refusals(self, batch_id: UUID, refused: Sequence[Refused]) -> None:
        """Adds refusals, once for each batch id."""
        ...

    async def announce(self, events: Sequence[QuotaEvent]) -> Sequence[QuotaEvent]:
        """Records the events that were not announced yet, and returns them."""
        ...


class RejectionStore(Protocol):
    """Where refusals are written down."""

    async def add(self, batch_id: UUID, rejected: Sequence[Rejected]) -> None:
        """Adds refusals, once for each batch id."""
        ...

    async def delete_old(self, days: int) -> bool:
        """Deletes some of what is older than so many days; whether there may be more of it."""
        ...
