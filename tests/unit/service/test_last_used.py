"""Last uses of keys are written in batches, and a failed write loses none."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL
from extauthz.service.usage import last_used as module
from extauthz.service.usage.last_used import LastUsed
from tests.unit.service.fakes import Failing


class Log(Failing):
    """Batches in the order of their arrival; another transaction locks keys in `busy`, no row takes those in `bad`."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[dict[str, float]] = []
        self.busy: set[str] = set()
        self.bad: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Semaphore(0)

    async def used(self, times: Mapping[str, float]) -> Collection[str]:
        self.entered.release()
        await self.gate.wait()
        self.called()
        if self.bad & times.keys():
            raise StoreUnavailable(POSTGRESQL, "refused")
        self.batches.append(dict(times))
        return self.busy & times.keys()


async def test_only_the_last_use_is_written() -> None:
    """Many uses of a key are one time, and a written time is not written again."""
    log = Log()
    last_used = LastUsed(log)
    for at in (1.0, 2.0, 3.0):
        last_used.note("a", at)
    last_used.note("b", 2.5)
    await last_used.write()
    await last_used.write()
    assert log.batches == [{"a": 3.0, "b": 2.5}]


async def test_many_keys_are_several_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement grows beyond its number of keys."""
    monkeypatch.setattr(module, "WRITE_BATCH_MAX", 4)
    log = Log()
    last_used = LastUsed(log)
    for number in range(10):
        last_used.note(str(number), number)
    await last_used.write()
    assert [len(batch) for batch in log.batches] == [4, 4, 2]


async def test_a_key_that_is_being_changed_is_noted_the_next_time() -> None:
    """Its time waits, unless there is a newer one by then."""
    log = Log()
    last_used = LastUsed(log)
    last_used.note("a", 1.0)
    last_used.note("b", 1.0)
    log.busy = {"a"}
    await last_used.write()
    log.busy = set()
    await last_used.write()
    assert log.batches[1:] == [{"a": 1.0}]


@pytest.mark.parametrize("newer", [False, True])
async def test_failed_writes_are_kept(monkeypatch: pytest.MonkeyPatch, newer: bool) -> None:
    """PostgreSQL away in the middle: what was not written is written later, with the newer time where there is one."""
    monkeypatch.setattr(module, "WRITE_BATCH_MAX", 1)
    log = Log()
    last_used = LastUsed(log)
    for key in ("a", "b", "c"):
        last_used.note(key, 1.0)
    log.error = StoreUnavailable(POSTGRESQL, "deadline")
    await last_used.write()
    log.error = None
    if newer:
        last_used.note("b", 2.0)
    await last_used.write()
    assert log.batches == [{"a": 1.0}, {"b": 2.0 if newer else 1.0}, {"c": 1.0}]


async def test_a_stop_in_the_middle_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing is cancelled, the last write of an orderly stop has all of it."""
    monkeypatch.setattr(module, "WRITE_BATCH_MAX", 2)
    monkeypatch.setattr(module, "WRITE_INTERVAL_SECONDS", 0.0)
    log = Log()
    last_used = LastUsed(log)
    for key in ("a", "b", "c", "d", "e"):
        last_used.note(key, 1.0)
    log.gate.clear()
    writing = asyncio.create_task(last_used.keep_writing())
    await log.entered.acquire()
    last_used.note("a", 2.0)
    writing.cancel()
    await asyncio.wait({writing})
    log.gate.set()
    await last_used.write()
    written = {key: max(batch.get(key, 0) for batch in log.batches) for key in "abcde"}
    assert written == {"a": 2.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0}


@pytest.mark.parametrize("bad", [{"7"}, {"0", "9"}, set("0123456789")])
async def test_a_row_that_is_refused_does_not_hold_up_the_others(bad: set[str]) -> None:
    """Every other key is written once; a rejected one is not retried for ever, a locked one is kept."""
    log = Log()
    last_used = LastUsed(log)
    for number in range(10):
        last_used.note(str(number), number)
    log.bad, log.busy = bad, {"5"} - bad
    await last_used.write()
    written = sorted(key for batch in log.batches for key in batch)
    assert written == sorted(set("0123456789") - bad)
    assert len(last_used) == len(log.busy)


async def test_last_write_retries_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked keys are retried for a moment; a PostgreSQL that hangs is waited for once."""
    monkeypatch.setattr(module, "RETRY_INTERVAL_SECONDS", 0.01)
    log = Log()
    last_used = LastUsed(log)
    last_used.note("a", 1.0)
    log.busy = {"a"}
    writing = asyncio.create_task(last_used.write_all())
    async with asyncio.timeout(5):
        for _ in range(3):
            await log.entered.acquire()
        log.busy = set()
        await writing
    assert len(last_used) == 0
    monkeypatch.setattr(module, "LAST_WRITE_SECONDS", 0.01)
    monkeypatch.setattr(module, "WRITE_TIMEOUT_SECONDS", 0.02)
    log.batches.clear()
    log.gate.clear()
    last_used.note("a", 2.0)
    async with asyncio.timeout(5):
        await last_used.write_all()
    assert (log.batches, len(last_used)) == ([], 1)


async def test_last_uses_of_foreign_keys_are_not_written() -> None:
    """Where keys are in foreign tables, nothing is written, and nothing accumulates."""
    last_used = LastUsed(None)
    last_used.note("a", 1.0)
    await last_used.write()
    assert last_used._times == {}


async def test_many_keys_are_written_before_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large batch is written before the half minute is over, so that it stays bounded."""
    monkeypatch.setattr(module, "LOOK_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(module, "EARLY_WRITE_KEYS", 3)
    log = Log()
    last_used = LastUsed(log)
    writing = asyncio.create_task(last_used.keep_writing())
    for number in range(3):
        last_used.note(str(number), 1.0)
    async with asyncio.timeout(10):
        await log.entered.acquire()
    writing.cancel()
    await asyncio.wait({writing})
    assert len(last_used) <= 3
