"""A supervisor asks a worker for reports as often as they are wanted, and no more if the worker hangs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from extauthz.app.control import Control, Report, ReportRequest
from extauthz.app.worker_process import REPORT_TIMEOUT_SECONDS, WorkerProcess
from extauthz.service.health import Readiness

READY = Readiness(True, False, {})
AT_ONCE = 10


@pytest.fixture
async def ends() -> AsyncIterator[tuple[WorkerProcess, Control]]:
    """The supervisor's side of a worker, and the worker's end of their connection."""
    pair = socket.socketpair()
    ours, theirs = [Control(*await asyncio.open_connection(sock=sock)) for sock in pair]
    # A report does not use the process.
    yield WorkerProcess(cast("asyncio.subprocess.Process", None), ours), theirs
    ours.close()
    theirs.close()


async def requests(end: Control) -> list[ReportRequest]:
    """All that have come by now."""
    found: list[ReportRequest] = []
    while True:
        try:
            async with asyncio.timeout(0.05):
                found.append(ReportRequest.from_json(await end.receive()))
        except TimeoutError:
            return found


async def test_a_worker_that_hangs_is_not_asked_again(ends: tuple[WorkerProcess, Control]) -> None:
    """With many scrapes one request waits for it; once it answers, reports are those of later requests."""
    worker, end = ends
    worker.report_timeout = 0.02
    for _ in range(2):
        assert await asyncio.gather(*(worker.report() for _ in range(AT_ONCE))) == [None] * AT_ONCE
    assert [request.number for request in await requests(end)] == [1]
    worker.report_timeout = REPORT_TIMEOUT_SECONDS
    await end.send(Report(1, READY, []).to_json())
    report = asyncio.create_task(worker.report())
    assert ReportRequest.from_json(await end.receive()).number == 2
    await end.send(Report(2, READY, []).to_json())
    assert await report == READY


async def test_reports_at_once_are_shared(ends: tuple[WorkerProcess, Control]) -> None:
    """A request during a report gets the next one, together with all others; never one begun before."""
    worker, end = ends
    reports = [asyncio.create_task(worker.report()) for _ in range(AT_ONCE)]
    for number in (1, 2):
        assert ReportRequest.from_json(await end.receive()).number == number
        await end.send(Report(number, Readiness(True, False, {"request": str(number)}), []).to_json())
    first, *others = await asyncio.gather(*reports)
    assert first == Readiness(True, False, {"request": "1"})
    assert others == [Readiness(True, False, {"request": "2"})] * (AT_ONCE - 1)
