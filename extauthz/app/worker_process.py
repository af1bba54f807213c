"""The supervisor's side of one worker process: how it is started, and its control connection.

On that connection the worker first gets its settings; then it is asked for its report again and again.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from extauthz.app.control import Control, Report, ReportRequest
from extauthz.config import Settings, handover
from extauthz.service.health import Readiness
from extauthz.telemetry.samples import Sample

REPORT_TIMEOUT_SECONDS = 1.0
ADDRESS_TAKEN = 98  # exit status of a worker whose address another process has begun to listen on


class Inherited(NamedTuple):
    """What a worker gets with its start. `control`, `tail`, `sockets` and `ledger` are file descriptors."""

    number: int
    control: int
    tail: int
    sockets: Mapping[str, int]  # by the name of the listener
    patience: float  # seconds, as for wiring.running
    ledger: int | None  # memory in which it counts what it serves of its leases

    def descriptors(self) -> list[int]:
        """All of them."""
        ledgers = [] if self.ledger is None else [self.ledger]
        return [self.control, self.tail, *self.sockets.values(), *ledgers]


class WorkerProcess:
    """One worker process, as its supervisor sees it."""

    def __init__(self, process: asyncio.subprocess.Process, control: Control) -> None:
        self.process = process
        self.samples: list[Sample] = []
        self.report_timeout = REPORT_TIMEOUT_SECONDS  # in which a worker that does not hang answers
        self._control = control
        self._turn = asyncio.Lock()
        self._begun = 0  # reports that were asked for
        self._last: tuple[int, Readiness | None] = 0, None  # the number of the last one that ended, and what it says
        self._asked = self._answered = 0  # requests for a report

    async def report(self, placed: Collection[str] = ()) -> Readiness | None:
        """Its readiness, with its samples kept; None where it does not answer in time. `placed` as for ReportRequest.

        Callers that ask while one report is under way share the next one, so that a worker that hangs makes no queue.
        """
        wanted = self._begun + 1
        async with self._turn:
            if self._last[0] < wanted:
                self._begun += 1
                number = self._begun
                self._last = number, await self._ask(placed)
            return self._last[1]

    async def _ask(self, placed: Collection[str]) -> Readiness | None:
        try:
            async with asyncio.timeout(self.report_timeout):
                while self._answered < self._asked:  # or requests would pile up before a worker that hangs
                    self._answered = Report.from_json(await self._control.receive()).number
                self._asked += 1
                await self._control.send(ReportRequest(self._asked, placed).to_json())
                report = Report.from_json(await self._control.receive())
        except (TimeoutError, OSError, EOFError):
            return None
        self._answered = report.number
        self.samples = report.samples
        return report.readiness

    def close(self) -> None:
        """Ends the control connection."""
        self._control.close()


async def start_worker(
    settings: Settings,
    number: int,
    *,
    sockets: Mapping[str, socket.socket],
    tail: socket.socket,
    patience: float,
    ledger: int | None,
) -> WorkerProcess:
    """Start a worker in place `number`; `tail` is its end of the tail channel. Raises OSError where none starts."""
    ours, theirs = socket.socketpair()
    with theirs, tail:
        listening = {name: sock.fileno() for name, sock in sockets.items()}
        inherited = Inherited(number, theirs.fileno(), tail.fileno(), listening, patience, ledger)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # modules in the current folder are not imported
                "-m",
                "extauthz.app.worker",
                json.dumps(inherited),
                pass_fds=inherited.descriptors(),
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, and it ends them in order
            )
        except OSError:
            ours.close()
            raise
    control = Control(*await asyncio.open_connection(sock=ours))
    with suppress(ConnectionError):  # its end is seen soon enough
        await control.send(handover.to_record(settings))
    return WorkerProcess(process, control)
