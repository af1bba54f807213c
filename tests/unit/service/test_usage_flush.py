"""Charges, rejections and thresholds are written: nothing twice, nothing left out, and nothing delayed."""

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
from extauthz.core.usage import Counted, CreditsUsed, QuotaEvent, Refused, Seed, Span, UsageBatch
from extauthz.service.usage import flush as module
from extauthz.service.usage import refused_counts
from extauthz.service.usage.flush import UsageFlush
from tests.unit.service.fakes import Failing, Watch
from tests.unit.service.test_thresholds import TODAY, spend, spent

ROW = Counted("org-1", "key-1", TODAY, 1, 1, 1)


class Log(Failing):
    """Marks that wait, read in portions; `said` are those reported as saved."""

    def __init__(self, marks: int = 0) -> None:
        super().__init__()
        self.left = marks
        self.said: list[UsageBatch] = []
        self.told = asyncio.Event()

    async def mark(self, pairs: Sequence[tuple[str, str]]) -> None:
        raise AssertionError(f"only charges set marks: {pairs}")

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
    """The store of usage. `mine` False: another process saves. `lost`: the answer is lost, though it was done."""

    def __init__(self) -> None:
        super().__init__()
        self.mine = True
        self.lost = 0
        self.rows: list[Counted] = []
        self.credits_used: list[CreditsUsed] = []
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

    async def _save(self, counted: Sequence[Counted], credits_used: Sequence[CreditsUsed] = ()) -> None:
        self.rows += counted
        self.credits_used += credits_used

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
    """The usage flush with all that it needs."""

    def __init__(self, marks: int = 0) -> None:
        self.log, self.usage, self.watch = Log(marks), Usage(), Watch()
        self.left = 0  # how often one tenant has to be reconciled
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


async def test_a_batch_keeps_its_id_until_it_is_added() -> None:
    """After a lost answer the same batch is sent again; later rejections go into another."""
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
    """A flush that is cancelled while it adds a batch adds the same batch at the end."""
    monkeypatch.setattr(module, "REFUSALS_INTERVAL_SECONDS", 0.0)
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
    """A key with a row is always counted; those without room are reported by number."""
    monkeypatch.setattr(refused_counts, "ROWS_MAX", 3)
    monkeypatch.setattr(refused_counts, "ROWS_PER_BATCH_MAX", 2)
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
    """Events announced by other processes are not repeated, and failed ones are announced later."""
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
    """A quota lowered below its use is at 100 percent at the first request that it refuses."""
    room = Room()
    room.usage_flush.note(spend(daily=10), spent(12), Reason.DAILY_QUOTA_EXCEEDED)
    assert await room.usage_flush.add()
    assert [event.threshold for event in room.watch.thresholds] == [80, 90, 100]


@pytest.mark.parametrize("marks", [0, 1, 4, 5, 6])
async def test_a_backlog_is_saved_in_portions(monkeypatch: pytest.MonkeyPatch, marks: int) -> None:
    """Each portion is a transaction of its own, and is reported saved before the next."""
    monkeypatch.setattr(module, "MARKS_PER_BATCH_MAX", 2)
    room = Room(marks)
    assert await room.usage_flush.save()
    assert (len(room.usage.rows), room.log.left) == (marks, 0)
    assert [len(batch.marks) for batch in room.log.said] == [2] * (marks // 2) + [marks % 2]


async def test_another_process_saves() -> None:
    """A process without the lock reads nothing and has nothing to do."""
    room = Room(3)
    room.usage.mine = False
    assert await room.usage_flush.save()
    assert (room.log.calls, room.log.said) == (0, [])


@pytest.mark.parametrize("away", [POSTGRESQL, REDIS])
async def test_a_store_that_is_away(away: str) -> None:
    """Nothing is lost before the next flush; a mark is deleted only after it was saved."""
    room = Room(3)
    (room.usage if away == POSTGRESQL else room.log).error = StoreUnavailable(away, "connection")
    assert not await room.usage_flush.save()
    assert (room.usage.rows, room.log.said, room.log.left) == ([], [], 3)
    assert sum(room.watch.failures.values()) == 1
    assert next(iter(room.watch.failures)) == (away, "connection")


async def test_commit_whose_answer_is_lost() -> None:
    """Marks stay, because the outcome is unknown: the same is saved again, which changes nothing."""
    room = Room(1)
    room.usage.lost = 1
    assert not await room.usage_flush.save()
    assert room.log.said == []


async def test_provisional_counters_are_reconciled() -> None:
    """The flush reconciles provisional counters until none is left; only then is all saved."""
    room = Room(1)
    room.left = 2
    assert [await room.usage_flush.save() for _ in range(3)] == [False, False, True]
    room.usage.mine = False
    assert await room.usage_flush.save()
    assert room.completed == 3


async def test_failed_reconciliation_does_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are saved all the same, in every portion."""
    monkeypatch.setattr(module, "MARKS_PER_BATCH_MAX", 2)
    room = Room(5)
    room.away = StoreUnavailable(POSTGRESQL, "timeout")
    assert not await room.usage_flush.save()
    assert (len(room.usage.rows), room.log.left) == (5, 0)
    assert room.watch.failures == {(POSTGRESQL, "timeout"): 3}


async def test_refused_reconciliation_is_told_once() -> None:
    """A right that PostgreSQL does not grant is told, although charges of others are saved; and when it is granted."""
    room = Room(1)
    room.away = StoreUnavailable(POSTGRESQL, "authentication")
    for _ in range(3):
        assert not await room.usage_flush.save()
    assert room.watch.kept == ["authentication"]
    room.away = None
    for _ in range(3):
        assert await room.usage_flush.save()
    assert room.watch.kept == ["authentication", ""]


async def test_last_flush_reconciles_and_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends tries again at once, as after a failure of a store."""
    monkeypatch.setattr(module, "RETRY_DELAY_SECONDS", 0.001)
    room = Room(1)
    room.left = 1
    async with asyncio.timeout(5):
        await room.usage_flush.save_all()
    assert room.completed == 2


async def test_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rejections and charges are saved periodically, each at its own interval."""
    monkeypatch.setattr(module, "REFUSALS_INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(module, "SAVE_INTERVAL_SECONDS", 0.01)
    room = Room(1)
    room.refuse()
    async with asyncio.timeout(5):
        working = asyncio.create_task(room.usage_flush.keep_saving())
        await room.log.told.wait()
    working.cancel()
    await asyncio.wait({working})
    assert (len(room.usage.refused()), room.usage.rows) == (1, [ROW])


async def test_last_flush_retries_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment's failure is retried; a PostgreSQL that hangs is not waited for long."""
    monkeypatch.setattr(module, "RETRY_DELAY_SECONDS", 0.01)
    room = Room(1)
    room.refuse()
    room.usage.lost = 3
    async with asyncio.timeout(5):
        await room.usage_flush.save_all()
    assert (len(room.usage.batches), room.log.left, len(room.log.said)) == (1, 0, 1)
    monkeypatch.setattr(module, "STOP_TIMEOUT_SECONDS", 0.01)
    room.refuse()
    room.usage.gate.clear()
    async with asyncio.timeout(5):
        await room.usage_flush.save_all()
    assert len(room.usage.batches) == 1


async def test_no_usage_is_kept_for_foreign_keys() -> None:
    """Where keys are in foreign tables, nothing is written, and nothing accumulates."""
    usage_flush = UsageFlush(None, None, complete=None, observer=Watch())
    usage_flush.note(spend(daily=1), spent(1), Reason.RATE_LIMITED)
    assert await usage_flush.add()
    assert await usage_flush.save()
    await usage_flush.save_all()
    assert (usage_flush._refusals.next(), list(usage_flush._thresholds.next())) == (None, [])
