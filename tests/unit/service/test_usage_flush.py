"""Charges, refusals and thresholds are written down: nothing twice, nothing left out, and nothing held up."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS, SaveUsage
from extauthz.core.reason import Reason
from extauthz.core.usage import Counted, QuotaEvent, Refused, Seed, Span, UsageBatch
from extauthz.service.usage import flush as module
from extauthz.service.usage import refused_counts
from extauthz.service.usage.flush import UsageFlush
from tests.unit.service.fakes import Failing, Watch
from tests.unit.service.test_thresholds import TODAY, spend, spent

ROW = Counted("org-1", "key-1", TODAY, 1, 1, 1)


class Log(Failing):
    """Marks that wait, read in portions; `said` is what was told to be saved."""

    def __init__(self, marks: int = 0) -> None:
        super().__init__()
        self.left = marks
        self.said: list[UsageBatch] = []
        self.told = asyncio.Event()

    async def mark(self, pairs: Sequence[tuple[str, str]]) -> None:
        raise AssertionError(f"only who charges marks: {pairs}")

    async def read(self, at_most: int, position: int = 0) -> UsageBatch:
        self.called()
        count = min(self.left, at_most)
        self.left -= count
        marks = [("org-1", "key-1", 1.0)] * count
        return UsageBatch(marks, 2.0, [ROW] * count, position=position, last=count < at_most)

    async def acknowledge(self, batch: UsageBatch) -> int:
        self.called()
        self.said.append(batch)
        self.told.set()
        return batch.position


class Usage(Failing):
    """What is written down. `mine` False: another saves. `lost` answers do not arrive, though it was done."""

    def __init__(self) -> None:
        super().__init__()
        self.mine = True
        self.lost = 0
        self.rows: list[Counted] = []
        self.batches: dict[UUID, Sequence[Refused]] = {}
        self.events: list[QuotaEvent] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Semaphore(0)

    async def _enter(self) -> None:
        self.entered.release()
        await self.gate.wait()
        self.called()

    def _leave(self) -> None:
        if self.lost:
            self.lost -= 1
            raise StoreUnavailable(POSTGRESQL, "connection")

    async def seeds(self, wanted: Mapping[str, Sequence[Span]]) -> Mapping[str, Sequence[Seed]]:
        return dict.fromkeys(wanted, ())

    @asynccontextmanager
    async def exclusive_saver(self) -> AsyncIterator[SaveUsage | None]:
        await self._enter()
        yield self._save if self.mine else None
        if self.mine:
            self._leave()

    async def _save(self, counted: Sequence[Counted]) -> None:
        self.rows += counted

    async def add_refusals(self, batch_id: UUID, refused: Sequence[Refused]) -> None:
        await self._enter()
        assert self.batches.setdefault(batch_id, refused) == refused
        self._leave()

    async def announce(self, events: Sequence[QuotaEvent]) -> Sequence[QuotaEvent]:
        await self._enter()
        new = [event for event in events if event not in self.events]
        self.events += new
        self._leave()
        return new

    def refused(self) -> list[Refused]:
        return [row for batch in self.batches.values() for row in batch]


class Room:
    """Metering with all it stands on."""

    def __init__(self, marks: int = 0) -> None:
        self.log, self.usage, self.watch = Log(marks), Usage(), Watch()
        self.left = 0  # times that somebody has to be completed
        self.completed = 0
        self.away: StoreUnavailable | None = None
        self.usage_flush = UsageFlush(self.log, self.usage, complete=self._complete, observer=self.watch)

    async def _complete(self, incomplete: Mapping[str, Sequence[date]]) -> bool:  # noqa: ARG002 - the fake has its own
        if self.away is not None:
            raise self.away
        self.completed += 1
        self.left -= 1
        return self.left < 0

    def refuse(self, key_id: str = "key-1", reason: Reason = Reason.RATE_LIMITED, *, day: int = 1) -> None:
        self.usage_flush.note(replace(spend(daily=None), key_id=key_id), spent(0, day=day), reason)


async def test_refusals_are_added_up() -> None:
    """By key and day, buckets and quotas apart, in one batch; what was added is not added again."""
    room = Room()
    for reason in (
        Reason.RATE_LIMITED,
        Reason.RATE_LIMITED,
        Reason.DAILY_QUOTA_EXCEEDED,
        Reason.MONTHLY_QUOTA_EXCEEDED,
    ):
        room.refuse(reason=reason)
    room.refuse("key-2", day=0)
    room.usage_flush.note(spend(), spent(1), Reason.ALLOW)
    assert await room.usage_flush.add()
    assert await room.usage_flush.add()
    assert len(room.usage.batches) == 1
    assert room.usage.refused() == [
        Refused("org-1", "key-1", TODAY, 2, 2),
        Refused("org-1", "key-2", date(2027, 1, 14), 1, 0),
    ]


async def test_a_batch_keeps_its_id_until_it_is_known_to_be_added() -> None:
    """An answer that was lost, or never came: the same batch comes again, what was refused since in another."""
    room = Room()
    room.refuse()
    room.usage.lost = 2
    for _ in range(2):
        assert not await room.usage_flush.add()
        room.refuse()
    assert await room.usage_flush.add()
    assert [sum(row.rate_limited for row in batch) for batch in room.usage.batches.values()] == [1, 2]
    assert room.watch.failures == {(POSTGRESQL, "connection"): 2}


async def test_a_stop_in_the_middle_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is cancelled while adding adds the same batch at the end."""
    monkeypatch.setattr(module, "ADD_EVERY", 0.0)
    room = Room()
    room.refuse()
    room.usage.gate.clear()
    working = asyncio.create_task(room.usage_flush.keep_saving())
    await room.usage.entered.acquire()
    room.refuse()
    working.cancel()
    await asyncio.wait({working})
    room.usage.gate.set()
    await room.usage_flush.save_all()
    assert [row.rate_limited for row in room.usage.refused()] == [1, 1]


async def test_refusals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a row is counted on, however long it takes; those for whom there is no room are told of by number."""
    monkeypatch.setattr(refused_counts, "ROWS_MAX", 3)
    monkeypatch.setattr(refused_counts, "AT_ONCE", 2)
    room = Room()
    for number in (0, 1, 2, 3, 4, 0):
        room.refuse(f"key-{number}")
    with capture_logs() as logs:
        assert await room.usage_flush.add()
    assert [(row.key_id, row.rate_limited) for row in room.usage.refused()] == [
        ("key-0", 2),
        ("key-1", 1),
        ("key-2", 1),
    ]
    assert len(room.usage.batches) == 2
    assert [(line["event"], line["count"]) for line in logs] == [("refusals_not_counted", 2)]


async def test_thresholds_are_announced_once() -> None:
    """What others have said already is not said again, and what could not be said is said later."""
    room = Room()
    room.usage_flush.note(spend(), spent(95), Reason.ALLOW)
    room.usage.events = [QuotaEvent("org-1", "daily", TODAY, 80, 95, 100)]
    room.usage.error = StoreUnavailable(POSTGRESQL, "timeout")
    assert not await room.usage_flush.add()
    room.usage.error = None
    assert await room.usage_flush.add()
    assert await room.usage_flush.add()
    assert room.watch.thresholds == [QuotaEvent("org-1", "daily", TODAY, 90, 95, 100)]


async def test_a_refusal_says_how_much_is_used() -> None:
    """A quota that was lowered below what is used is at 100 percent by the first request that it refuses."""
    room = Room()
    room.usage_flush.note(spend(daily=10), spent(12), Reason.DAILY_QUOTA_EXCEEDED)
    assert await room.usage_flush.add()
    assert [event.threshold for event in room.watch.thresholds] == [80, 90, 100]


@pytest.mark.parametrize("marks", [0, 1, 4, 5, 6])
async def test_a_backlog_is_saved_in_portions(monkeypatch: pytest.MonkeyPatch, marks: int) -> None:
    """Each is a transaction of its own, and what it saved is said before the next."""
    monkeypatch.setattr(module, "AT_ONCE", 2)
    room = Room(marks)
    assert await room.usage_flush.save()
    assert (len(room.usage.rows), room.log.left) == (marks, 0)
    assert [len(batch.marks) for batch in room.log.said] == [2] * (marks // 2) + [marks % 2]


async def test_somebody_else_saves() -> None:
    """Who does not get the lock reads nothing and has nothing to do."""
    room = Room(3)
    room.usage.mine = False
    assert await room.usage_flush.save()
    assert (room.log.calls, room.log.said) == (0, [])


@pytest.mark.parametrize("away", [POSTGRESQL, REDIS])
async def test_a_store_that_is_away(away: str) -> None:
    """Everything waits for the next time; no mark is taken away that was not saved."""
    room = Room(3)
    (room.usage if away == POSTGRESQL else room.log).error = StoreUnavailable(away, "connection")
    assert not await room.usage_flush.save()
    assert (room.usage.rows, room.log.said, room.log.left) == ([], [], 3)
    assert sum(room.watch.failures.values()) == 1
    assert next(iter(room.watch.failures)) == (away, "connection")


async def test_a_commit_of_which_nobody_hears() -> None:
    """Marks stay, since nobody knows: the same is saved again, which changes nothing."""
    room = Room(1)
    room.usage.lost = 1
    assert not await room.usage_flush.save()
    assert room.log.said == []


async def test_charged_while_nobody_knew_what_was_before() -> None:
    """Whoever saves has it completed, each time as long as there is somebody; all is saved only then."""
    room = Room(1)
    room.left = 2
    assert [await room.usage_flush.save() for _ in range(3)] == [False, False, True]
    room.usage.mine = False
    assert await room.usage_flush.save()
    assert room.completed == 3


async def test_what_cannot_be_completed_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are saved all the same, in every portion."""
    monkeypatch.setattr(module, "AT_ONCE", 2)
    room = Room(5)
    room.away = StoreUnavailable(POSTGRESQL, "timeout")
    assert not await room.usage_flush.save()
    assert (len(room.usage.rows), room.log.left) == (5, 0)
    assert room.watch.failures == {(POSTGRESQL, "timeout"): 3}


async def test_at_the_end_somebody_is_completed_and_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends tries again at once, as with a store that failed."""
    monkeypatch.setattr(module, "AGAIN_AFTER", 0.001)
    room = Room(1)
    room.left = 1
    async with asyncio.timeout(5):
        await room.usage_flush.save_all()
    assert room.completed == 2


async def test_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals are added and charges saved without being asked, each in its own rhythm."""
    monkeypatch.setattr(module, "ADD_EVERY", 0.001)
    monkeypatch.setattr(module, "SAVE_EVERY", 0.01)
    room = Room(1)
    room.refuse()
    async with asyncio.timeout(5):
        working = asyncio.create_task(room.usage_flush.keep_saving())
        await room.log.told.wait()
    working.cancel()
    await asyncio.wait({working})
    assert (len(room.usage.refused()), room.usage.rows) == (1, [ROW])


async def test_at_the_end_there_is_some_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment's failure is tried again; a PostgreSQL that hangs is not waited for long."""
    monkeypatch.setattr(module, "AGAIN_AFTER", 0.01)
    room = Room(1)
    room.refuse()
    room.usage.lost = 3
    async with asyncio.timeout(5):
        await room.usage_flush.save_all()
    assert (len(room.usage.batches), room.log.left, len(room.log.said)) == (1, 0, 1)
    monkeypatch.setattr(module, "LAST_PATIENCE", 0.01)
    room.refuse()
    room.usage.gate.clear()
    async with asyncio.timeout(5):
        await room.usage_flush.save_all()
    assert len(room.usage.batches) == 1


async def test_nobody_keeps_usage() -> None:
    """Where keys are in tables of others, nothing is written, and nothing is collected for ever."""
    usage_flush = UsageFlush(None, None, complete=None, observer=Watch())
    usage_flush.note(spend(daily=1), spent(1), Reason.RATE_LIMITED)
    assert await usage_flush.add()
    assert await usage_flush.save()
    await usage_flush.save_all()
    assert (usage_flush._refusals.next(), list(usage_flush._thresholds.next())) == (None, [])
