"""Several processes on the same sockets: started, watched, started again, and spoken for on one private listener.

A worker has one control connection to its supervisor. First it gets its settings there, so that it never differs from
the others, whatever became of files since. Then it is asked for its report again and again; the end of the connection
is the end of the supervisor, and the worker stops.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from mmap import mmap

import structlog

from extauthz.app import signals, wiring
from extauthz.app.admin_listener import Live, private_listener, service_metrics
from extauthz.app.control import Control, Question, Report
from extauthz.app.listeners import ADMIN, dialect_names
from extauthz.app.process import addresses, run, settle
from extauthz.app.signals import StopSignals
from extauthz.app.tail_channel import SupervisorEnd, WorkerEnd
from extauthz.config import Settings, handover
from extauthz.service.health import LOOK_EVERY, OK, Readiness
from extauthz.service.limits.lease_ledger import SIZE, Ledger
from extauthz.service.tails import Tails
from extauthz.telemetry import logs
from extauthz.telemetry.drops import Drops
from extauthz.telemetry.exposition import Exposition
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.samples import Sample, counted, take
from extauthz.telemetry.tenants import TenantPlaces
from extauthz.transports.http.health import Reports
from extauthz.transports.http.listen import AddressTaken

REPORT_EVERY = 1.0  # seconds between reports kept for the day a worker dies; its last ones are lost
REPORT_TIMEOUT = 1.0
RESTART_AFTER = (0.1, 0.5, 2.0, 5.0)  # seconds; the last for every further death in a row
STEADY = 10.0  # seconds after which a worker's death is the first in a row again
STOP_TIMEOUT = 5.0  # seconds after the drain in which workers have to end
TAKEN = 98  # exit status of a worker whose address another process has begun to listen on


class _Worker:
    """The supervisor's side of one worker process."""

    def __init__(self, process: asyncio.subprocess.Process, control: Control) -> None:
        self.process = process
        self.samples: list[Sample] = []
        self._control = control
        self._turn = asyncio.Lock()
        self._begun = 0  # reports that were asked for
        self._last: tuple[int, Readiness | None] = 0, None  # the number of the last one that ended, and what it says
        self._asked = self._answered = 0  # questions

    async def report(self, placed: Collection[str] = ()) -> Readiness | None:
        """Its readiness, with its samples kept; None where it does not answer in time. `placed` as for Question.

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
            async with asyncio.timeout(REPORT_TIMEOUT):
                while self._answered < self._asked:  # or questions would pile up before a worker that hangs
                    self._answered = Report.from_json(await self._control.receive()).question
                self._asked += 1
                await self._control.send(Question(self._asked, placed).to_json())
                report = Report.from_json(await self._control.receive())
        except (TimeoutError, OSError, EOFError):
            return None
        self._answered = report.question
        self.samples = report.samples
        return report.readiness

    def close(self) -> None:
        self._control.close()


class Supervisor:
    """Keeps `settings.workers` workers on `sockets`."""

    def __init__(self, settings: Settings, sockets: Mapping[str, socket.socket], *, patience: float = 0.0) -> None:
        """`patience` as for wiring.running."""
        self._settings = settings
        self._patience = patience
        self._addresses = addresses(sockets)
        self._shared = {name: sock for name, sock in sockets.items() if name != ADMIN.name}
        self._admin = sockets.get(ADMIN.name)
        self._workers: dict[int, _Worker] = {}
        metrics = Metrics(dialect_names())
        self._service = service_metrics(settings, supervises=True)
        self._exposition = Exposition(metrics.registry, self._service.registry)
        self._places = TenantPlaces(settings.tenant_metrics or 0)
        # What is counted is there from the start, and what a dead worker has counted stays counted.
        self._of_the_dead: list[Sample] = counted(metrics.samples())
        # Memory in which each worker counts what it serves of its leases, for the one that takes its place.
        leases = settings.rate_limit_leases != "off"
        self._ledgers = [_shared_memory() for _ in range(settings.workers)] if leases else []
        self._tail_channel = SupervisorEnd()
        self._tails = Tails(self._tail_channel.watch)
        drops = Drops()
        drops.watch("tail", self._tails.count_dropped)
        self._service.registry.register(drops)
        self._stopping = asyncio.Event()
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Serves until a signal asks for the end; then every worker drains and stops. Raises AddressTaken."""
        taken: list[BaseException] = []
        try:
            await self._run()
        except* AddressTaken as group:
            taken.extend(group.exceptions)
        if taken:  # raised in there, it would be in a group again
            raise taken[0]

    async def _run(self) -> None:
        stop = StopSignals()
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._keep(number)) for number in range(self._settings.workers)]
            helpers = [group.create_task(self._refresh()), group.create_task(self._relay(stop))]
            reports = Reports(self._readiness, self._metrics)
            await self._until_ready(self._patience)
            async with self._listener(reports):
                self._log.info("listening", workers=self._settings.workers, **self._addresses)
                await self._stopping.wait()
                await asyncio.wait(keepers, timeout=self._settings.drain_seconds + STOP_TIMEOUT)
                self._signal(signal.SIGKILL)
            for helper in helpers:
                helper.cancel()
        self._log.info("stopped")

    def _listener(self, reports: Reports) -> AbstractAsyncContextManager[None]:
        if self._admin is None:
            return nullcontext()
        return private_listener(
            self._settings,
            reports,
            self._admin,
            metrics=self._service,
            organizations=lambda: self._places.placed,
            live=Live(self._tails),
        )

    async def _relay(self, stop: StopSignals) -> None:
        """Hands each signal on to the workers: the first lets them drain, the second hurries them."""
        await stop.asked.wait()
        self._log.info("draining", seconds=self._settings.drain_seconds)
        self._stopping.set()
        for sock in self._shared.values():
            sock.close()  # or clients could connect after the last worker has ended, and wait for ever
        self._signal(signal.SIGTERM)
        await stop.again.wait()
        self._signal(signal.SIGINT)  # another kind: the kernel makes one of two equal ones that come together

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                worker.process.send_signal(number)

    async def _keep(self, number: int) -> None:
        """One worker after the other in place `number`."""
        deaths = 0
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            started = clock()
            status = await self._live(number)
            if status == TAKEN:
                ours = ", ".join(self._addresses.values())
                raise AddressTaken(f"another process listens on one of our addresses: {ours}")
            if not self._stopping.is_set():
                deaths = deaths + 1 if clock() - started < STEADY else 1
                self._log.warning("worker_restarted", worker=number, status=status)
                self._service.restarts += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(RESTART_AFTER[min(deaths, len(RESTART_AFTER)) - 1]):
                        await self._stopping.wait()

    async def _live(self, number: int) -> int | str:
        """A worker from its start to its end: its exit status, or why it could not be started."""
        try:
            worker = await self._start(number)
        except OSError as error:
            return str(error)
        self._workers[number] = worker
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        status = await worker.process.wait()
        del self._workers[number]
        self._bury(worker)
        return status

    async def _start(self, number: int) -> _Worker:
        ours, theirs = socket.socketpair()
        inherited = {name: sock.fileno() for name, sock in self._shared.items()}
        tail = self._tail_channel.connect(self._tails)
        arguments = {
            "number": number,
            "control": theirs.fileno(),
            "tail": tail.fileno(),
            "sockets": inherited,
            "patience": self._patience,
            "ledger": self._ledgers[number] if self._ledgers else None,
        }
        with theirs, tail:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",  # modules in the current folder are not imported
                    "-m",
                    "extauthz.app.workers",
                    json.dumps(arguments),
                    pass_fds=(theirs.fileno(), tail.fileno(), *inherited.values(), *self._ledgers[number : number + 1]),
                    start_new_session=True,  # Ctrl-C reaches the supervisor alone, and it ends them in order
                )
            except OSError:
                ours.close()
                raise
        control = Control(*await asyncio.open_connection(sock=ours))
        with suppress(ConnectionError):  # its end is seen soon enough
            await control.send(handover.to_record(self._settings))
        return _Worker(process, control)

    def _bury(self, worker: _Worker) -> None:
        """A counter never goes back: what a dead worker counted stays counted."""
        worker.close()
        self._of_the_dead = counted(self._places.assign([self._of_the_dead, worker.samples]))

    async def _refresh(self) -> None:
        while True:
            await self._reports()
            await asyncio.sleep(REPORT_EVERY)

    async def _reports(self) -> list[Readiness]:
        """What those workers say that answer; what they have counted is kept."""
        placed, workers = tuple(self._places.placed), list(self._workers.values())
        reports = await asyncio.gather(*(worker.report(placed) for worker in workers))
        there = [report for report in reports if report is not None]
        silent, down = len(workers) - len(there), self._settings.workers - len(workers)
        self._service.workers(alive=len(there), silent=silent, down=down)
        return there

    async def _readiness(self) -> Readiness:
        reports = await self._reports()
        stores: dict[str, str] = {}
        for report in reports:
            for store, state in report.stores.items():
                stores[store] = state if stores.get(store, OK) == OK else stores[store]
        there, wanted = len(reports), self._settings.workers
        stores["workers"] = OK if there == wanted else f"{there} of {wanted}"
        ready = any(report.ready for report in reports) and not self._stopping.is_set()
        return Readiness(ready, self._stopping.is_set(), stores)

    async def _until_ready(self, seconds: float) -> None:
        """Waits for the first worker that traffic may come to, at most so long."""
        for _ in range(round(seconds / LOOK_EVERY)):
            if self._stopping.is_set() or (await self._readiness()).ready:
                return
            await asyncio.sleep(LOOK_EVERY)

    async def _metrics(self, accept: str) -> tuple[bytes, str]:
        await self._reports()
        # A worker that died meanwhile is among the dead by now, and must not be counted twice.
        parts = [self._of_the_dead, *(worker.samples for worker in self._workers.values())]
        return self._exposition.render([self._places.assign(parts), take(self._service.registry)], accept)


async def _work(
    number: int,
    sockets: Mapping[str, socket.socket],
    *,
    control: socket.socket,
    tail: socket.socket,
    patience: float,
    ledger: Ledger | None,
) -> None:
    """The worker's side."""
    supervisor = Control(*await asyncio.open_connection(sock=control))
    try:
        settings = handover.from_record(await supervisor.receive())
    except (EOFError, ConnectionError):  # it ended before it could send them
        return
    form = settings.log_form(terminal=sys.stderr.isatty())
    logs.configure(form=form, level=settings.log_level, worker=number)
    stop = StopSignals()
    channel = WorkerEnd(tail)
    async with wiring.running(
        settings, sockets, patience=patience, settle=settle, slot=wiring.WorkerSlot(number, channel.send, ledger)
    ) as service:
        service.metrics.drops.watch("tail", channel.count_dropped)
        channel.listen(service.outputs.watch)
        drain = 0 if stop.asked.is_set() else settings.drain_seconds
        structlog.get_logger().info("serving", **service.health.readiness().stores)
        reporter = asyncio.create_task(_answer(supervisor, service, stop))
        await stop.asked.wait()
        service.drain()
        await stop.pause(drain)
        reporter.cancel()
    channel.close()
    supervisor.close()


async def _answer(supervisor: Control, service: wiring.Running, stop: StopSignals) -> None:
    """Reports as often as the supervisor asks; asks for a quick end when it is gone."""
    with suppress(EOFError, ConnectionError):
        while True:
            question = Question.from_json(await supervisor.receive())
            service.metrics.tenants.keep(question.placed)
            report = Report(question.number, service.health.readiness(), service.metrics.samples())
            await supervisor.send(report.to_json())
    stop.hurry()  # what replaces the supervisor needs the addresses


def _shared_memory() -> int:
    """The descriptor of memory that is there as long as the supervisor is."""
    descriptor = os.memfd_create("extauthz leases")
    os.ftruncate(descriptor, SIZE)
    return descriptor


def main() -> None:
    """What a worker process runs."""
    signals.hold()
    arguments = json.loads(sys.argv[1])
    sockets = {name: socket.socket(fileno=number) for name, number in arguments["sockets"].items()}
    control, tail = (socket.socket(fileno=arguments[name]) for name in ("control", "tail"))
    try:
        work = _work(
            arguments["number"],
            sockets,
            control=control,
            tail=tail,
            patience=arguments["patience"],
            ledger=None if arguments["ledger"] is None else Ledger(memoryview(mmap(arguments["ledger"], SIZE))),
        )
        run(work)
    except AddressTaken:
        sys.exit(TAKEN)


if __name__ == "__main__":
    main()
