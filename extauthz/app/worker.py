"""What a worker process runs: a service on inherited sockets, which reports to its supervisor.

The settings arrive on the control connection, so that a worker never differs from the others, whatever became of files
since. The end of the connection is the end of the supervisor, and the worker stops.
"""

import asyncio
import json
import socket
import sys
from contextlib import suppress
from mmap import mmap

import structlog

from extauthz.app import signals, wiring
from extauthz.app.control import Control, Report, ReportRequest
from extauthz.app.process import run, settle
from extauthz.app.signals import StopSignals
from extauthz.app.tail_channel import WorkerEnd
from extauthz.app.worker_process import ADDRESS_TAKEN, Inherited
from extauthz.config import handover
from extauthz.service.limits.lease_ledger import SIZE, Ledger
from extauthz.telemetry import logs
from extauthz.transports.http.listen import AddressTaken


async def _work(inherited: Inherited) -> None:
    """Serves until a signal asks for the end, or the supervisor is gone."""
    supervisor = Control(*await asyncio.open_connection(sock=socket.socket(fileno=inherited.control)))
    try:
        settings = handover.from_record(await supervisor.receive())
    except (EOFError, ConnectionError):  # it ended before it could send them
        return
    form = settings.log_form(terminal=sys.stderr.isatty())
    logs.configure(form=form, level=settings.log_level, worker=inherited.number)
    stop = StopSignals()
    channel = WorkerEnd(socket.socket(fileno=inherited.tail))
    sockets = {name: socket.socket(fileno=number) for name, number in inherited.sockets.items()}
    slot = wiring.WorkerSlot(inherited.number, channel.send, _ledger(inherited.ledger))
    async with wiring.running(settings, sockets, patience=inherited.patience, settle=settle, slot=slot) as service:
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
            asked = ReportRequest.from_json(await supervisor.receive())
            service.metrics.tenants.keep(asked.placed)
            report = Report(asked.number, service.health.readiness(), service.metrics.samples())
            await supervisor.send(report.to_json())
    stop.hurry()  # what replaces the supervisor needs the addresses


def _ledger(descriptor: int | None) -> Ledger | None:
    return None if descriptor is None else Ledger(memoryview(mmap(descriptor, SIZE)))


def main() -> None:
    """Runs the worker that the command line describes."""
    signals.hold()
    inherited = Inherited(*json.loads(sys.argv[1]))
    try:
        run(_work(inherited))
    except AddressTaken:
        sys.exit(ADDRESS_TAKEN)


if __name__ == "__main__":
    main()
