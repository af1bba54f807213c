"""A supervisor asks a worker for reports as often as they are wanted, and no more if the worker hangs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from extauthz.app import workers
from extauthz.app.control import Control, Question, Report
from extauthz.service.health import Readiness

READY = Readiness(True, False, {})
AT_ONCE = 10


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Any, Control]]:
    """The supervisor's side of a worker, and the worker's end of their connection."""
    pair = socket.socketpair()
    ours, theirs = [Control(*await asyncio.open_connection(sock=sock)) for sock in pair]
    # A report does not use the process.
    yield workers._Worker(cast("asyncio.subprocess.Process", None), ours), theirs
    ours.close()
    theirs.close()


async def questions(end: Control) -> list[Question]:
    """All that have come by now."""
    found: list[Question] = []
    while True:
        try:
            async with asyncio.timeout(0.05):
                found.append(Question.from_json(await end.receive()))
        except TimeoutError:
            return found


async def test_a_worker_that_hangs_is_not_asked_again(
    ends: tuple[Any, Control], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many scrapes one question waits for it; once it answers, reports are those of later questions."""
    worker, end = ends
    monkeypatch.setattr(workers, "REPORT_TIMEOUT", 0.02)
    for _ in range(2):
        assert await asyncio.gather(*(worker.report() for _ in range(AT_ONCE))) == [None] * AT_ONCE
    assert [question.number for question in await questions(end)] == [1]
    monkeypatch.undo()
    await end.send(Report(1, READY, []).to_json())
    report = asyncio.create_task(worker.report())
    assert Question.from_json(await end.receive()).number == 2
    await end.send(Report(2, READY, []).to_json())
    assert await report == READY


async def test_reports_at_once_are_shared(ends: tuple[Any, Control]) -> None:
    """A request during a report gets the next one, together with all others; never one begun before."""
    worker, end = ends
    reports = [asyncio.create_task(worker.report()) for _ in range(AT_ONCE)]
    for number in (1, 2):
        assert Question.from_json(await end.receive()).number == number
        await end.send(Report(number, Readiness(True, False, {"question": str(number)}), []).to_json())
    first, *others = await asyncio.gather(*reports)
    assert first.stores == {"question": "1"}
    assert [report.stores for report in others] == [{"question": "2"}] * (AT_ONCE - 1)
