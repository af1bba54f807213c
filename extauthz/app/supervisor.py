"""Several processes on the same sockets: started, watched, started again, and spoken for on one private listener."""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

import structlog

from extauthz.app.admin_listener import Live, private_listener, service_metrics
from extauthz.app.listeners import ADMIN, dialect_names
from extauthz.app.process import addresses
from extauthz.app.signals import StopSignals
from extauthz.app.tail_channel import SupervisorEnd
from extauthz.app.worker_process import ADDRESS_TAKEN, WorkerProcess, start_worker
from extauthz.config import Settings
from extauthz.service.health import LOOK_INTERVAL_SECONDS, OK, Readiness
from extauthz.service.limits.lease_ledger import SIZE
from extauthz.service.tails import Tails
from extauthz.telemetry.drops import Drops
from extauthz.telemetry.exposition import Exposition
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.samples import Sample, counted, take
from extauthz.telemetry.tenants import TenantPlaces
from extauthz.transports.http.health import Reports
from extauthz.transports.http.listen import AddressTaken

REPORT_INTERVAL_SECONDS = 1.0  # between reports that are kept because a worker may die: its last counts are lost
RESTART_DELAYS_SECONDS = (0.1, 0.5, 2.0, 5.0)  # the last for every further death in a row
STEADY_SECONDS = 10.0  # after which a worker's death is the first in a row again
STOP_TIMEOUT_SECONDS = 5.0  # after the drain, in which workers have to end


class Supervisor:
    """Keeps `settings.workers` workers on `sockets`."""

    def __init__(self, settings: Settings, sockets: Mapping[str, socket.socket], *, patience: float = 0.0) -> None:
        """`patience` as for wiring.running."""
        self._settings = settings
        self._patience = patience
        self._addresses = addresses(sockets)
        self._shared = {name: sock for name, sock in sockets.items() if name != ADMIN.name}
        self._admin = sockets.get(ADMIN.name)
        self._workers: dict[int, WorkerProcess] = {}
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
                await asyncio.wait(keepers, timeout=self._settings.drain_seconds + STOP_TIMEOUT_SECONDS)
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
            if status == ADDRESS_TAKEN:
                ours = ", ".join(self._addresses.values())
                raise AddressTaken(f"another process listens on one of our addresses: {ours}")
            if not self._stopping.is_set():
                deaths = deaths + 1 if clock() - started < STEADY_SECONDS else 1
                self._log.warning("worker_restarted", worker=number, status=status)
                self._service.restarts += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(RESTART_DELAYS_SECONDS[min(deaths, len(RESTART_DELAYS_SECONDS)) - 1]):
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

    async def _start(self, number: int) -> WorkerProcess:
        return await start_worker(
            self._settings,
            number,
            sockets=self._shared,
            tail=self._tail_channel.connect(self._tails),
            patience=self._patience,
            ledger=self._ledgers[number] if self._ledgers else None,
        )

    def _bury(self, worker: WorkerProcess) -> None:
        """A counter never goes back: what a dead worker counted stays counted."""
        worker.close()
        self._of_the_dead = counted(self._places.assign([self._of_the_dead, worker.samples]))

    async def _refresh(self) -> None:
        while True:
            await self._reports()
            await asyncio.sleep(REPORT_INTERVAL_SECONDS)

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
        for _ in range(round(seconds / LOOK_INTERVAL_SECONDS)):
            if self._stopping.is_set() or (await self._readiness()).ready:
                return
            await asyncio.sleep(LOOK_INTERVAL_SECONDS)

    async def _metrics(self, accept: str) -> tuple[bytes, str]:
        await self._reports()
        # A worker that died meanwhile is among the dead by now, and must not be counted twice.
        parts = [self._of_the_dead, *(worker.samples for worker in self._workers.values())]
        return self._exposition.render([self._places.assign(parts), take(self._service.registry)], accept)


def _shared_memory() -> int:
    """The descriptor of memory that is there as long as the supervisor is."""
    descriptor = os.memfd_create("extauthz leases")
    os.ftruncate(descriptor, SIZE)
    return descriptor
