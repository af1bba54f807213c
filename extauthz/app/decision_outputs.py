"""The decision log and live tails, which observe every decision; each only where it is on."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from extauthz.app.management import key_format
from extauthz.config import Settings
from extauthz.config.values import OTLP, STDOUT
from extauthz.core.observers import CheckWatcher
from extauthz.core.tail import TailFilter
from extauthz.service.tails import Tails
from extauthz.telemetry.decision_log import DecisionLog
from extauthz.telemetry.decision_record import DecisionRecords
from extauthz.telemetry.drops import Drops
from extauthz.telemetry.log_file import FileSink
from extauthz.telemetry.log_writer import DescriptorSink, Sink
from extauthz.telemetry.tail import Send, TailObserver

STANDARD_OUTPUT = 1


@dataclass(frozen=True, slots=True)
class DecisionOutputs:
    """The observers of checks; `watch` tells this worker which tails there are.

    `tails` are those of a process that is alone.
    """

    observers: tuple[CheckWatcher, ...]
    watch: Callable[[Mapping[int, TailFilter]], None]
    tails: Tails


def decision_outputs(
    stack: AsyncExitStack, settings: Settings, *, worker: int, send: Send | None, drops: Drops
) -> DecisionOutputs:
    """The outputs of one worker; what waits to be written is written when the stack is left.

    `send` takes the lines for live tails to where these are; None: they are here. `drops` counts what was dropped.
    """
    records = DecisionRecords(hide=key_format(settings).hide, worker=worker)
    observers: list[CheckWatcher] = []
    if settings.decision_log is not None:
        log = DecisionLog(_sink(settings), records, allowed=settings.decision_log.allowed)
        stack.push_async_callback(_finish, log.close)
        drops.watch("decision_log", log.count_dropped)
        observers.append(log)

    async def watch(filters: Mapping[int, TailFilter]) -> None:
        tail.watch(filters)

    tails = Tails(watch)
    drops.watch("tail", tails.count_dropped)
    tail = TailObserver(records, send or tails.deliver)
    if settings.admin_listen is not None and settings.admin_token:  # a tail comes through the private API
        observers.append(tail)
    return DecisionOutputs(tuple(observers), tail.watch, tails)


def _sink(settings: Settings) -> Sink:
    if settings.decision_log_to == STDOUT:
        return DescriptorSink(STANDARD_OUTPUT)
    if settings.decision_log_to != OTLP:
        return FileSink(settings.decision_log_to)
    from extauthz.telemetry.otlp_logs import OtlpSink  # noqa: PLC0415 - what is off is not imported

    return OtlpSink(settings.otlp_url("logs"), headers=settings.otlp_headers, resource=settings.resource_attributes)


async def _finish(close: Callable[[], bool]) -> None:
    """Lets the log end in a thread of its own, because it may wait for its reader."""
    await asyncio.to_thread(close)
