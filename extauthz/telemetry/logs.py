"""Logs: one line an event, JSON or for a person's eyes, on standard error. No line holds a credential.

An event passes a limit for its kind, is rendered, and waits in a bounded queue for the thread that writes it.
"""

import atexit
import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from extauthz.telemetry.log_limit import Event, LogLimit
from extauthz.telemetry.log_writer import DescriptorSink, LineStream, LogWriter

STANDARD_ERROR = 2
FLUSH_SECONDS = 1.0  # that the end of the process waits for the reader

_writers: list[LogWriter] = []  # of this process; the last one is in use


def configure(*, form: str, level: str, worker: int | None = None) -> None:
    """Sets up this process's logs. `form` is `json` or `console`, `level` a name such as `info`.

    From then on nothing that writes to `sys.stderr` waits for its reader. `worker` is added to every event.
    """
    renderers = _renderers(form)

    def wake() -> None:
        writer.wake()

    limit = LogLimit(holds=wake)

    def tick() -> float | None:
        events, after = limit.due()
        for event in events:
            writer.write(_rendered(event, renderers))
        return after

    def lost(count: int) -> None:
        structlog.get_logger().warning("log_lines_dropped", count=count)

    writer = LogWriter(DescriptorSink(STANDARD_ERROR), tick=tick, lost=lost)
    _replace(writer, limit, renderers)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _Named(worker),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _caught,
            limit,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _Lines(writer),
        cache_logger_on_first_use=True,
    )
    # Libraries speak only when something is wrong, and in our form.
    logging.basicConfig(handlers=[_Forward()], level=max(threshold, logging.WARNING), force=True)
    logging.captureWarnings(capture=True)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _unraisable


def notes(lines: Iterable[str]) -> None:
    """Warns of settings that have no effect."""
    for line in lines:
        structlog.get_logger().warning("setting_without_effect", note=line)


class LogDrops(Collector):
    """The metric of lines that were dropped."""

    def collect(self) -> Iterable[Metric]:
        """The count now."""
        dropped = sum(writer.dropped for writer in _writers)
        yield CounterMetricFamily("extauthz_log_dropped", "Lines of the log that were not written.", value=dropped)


def _replace(writer: LogWriter, limit: LogLimit, renderers: list[structlog.typing.Processor]) -> None:
    """Makes the writer the one in use, and has the end of the process wait for it, but not for long."""

    def finish() -> None:
        for event in limit.due(everything=True)[0]:
            writer.write(_rendered(event, renderers))
        sys.stderr.flush()
        writer.finish(FLUSH_SECONDS)

    if _writers:
        _writers[-1].finish(FLUSH_SECONDS)
    _writers.append(writer)
    sys.stderr = LineStream(writer, replaced=sys.stderr)
    atexit.register(finish)


def _renderers(form: str) -> list[structlog.typing.Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Not the renderer's own tracebacks: they show local variables, and a credential is one.
    plain = structlog.dev.plain_traceback
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]


def _rendered(event: Event, renderers: list[structlog.typing.Processor]) -> bytes:
    line: object = event
    for renderer in renderers:
        line = renderer(None, "", line)  # type: ignore[arg-type] # the last one makes a text of it
    return _encoded(str(line))


def _encoded(line: str) -> bytes:
    return line.encode(errors="backslashreplace") + b"\n"


def _caught(_: object, __: str, event: Event) -> Event:
    """Keeps the exception that is being handled, because the event may be rendered later."""
    if event.get("exc_info") is True:
        event["exc_info"] = sys.exc_info()
    return event


class _Named:
    """Adds the worker's number to every event, whatever thread or signal it comes from."""

    def __init__(self, worker: int | None) -> None:
        self._worker = worker

    def __call__(self, _: object, __: str, event: Event) -> Event:
        if self._worker is not None:
            event["worker"] = self._worker
        return event


class _Lines:
    """What structlog hands rendered events to."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def info(self, line: str) -> None:
        self._writer.write(_encoded(line))

    debug = warning = error = critical = info


class _Forward(logging.Handler):
    """Hands a library's log record on. Its arguments stay out: a parser's words may quote what a client sent."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        message = _warning(record) if record.name == "py.warnings" else str(record.msg)
        structlog.get_logger().log(record.levelno, "library", logger=record.name, message=message, error=kind)


def _warning(record: logging.LogRecord) -> str:
    """Where a warning comes from and of which category it is, without its words."""
    with suppress(IndexError, TypeError):
        return ":".join(str(record.args[0]).split(":", 3)[:3])  # type: ignore[index] # the standard library's form
    return "warning"


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """An exception that ended a thread is an event like others."""
    structlog.get_logger().error("unhandled_exception", exc_info=failed.exc_value)


def _unraisable(failed: "sys.UnraisableHookArgs") -> None:
    """So is one that nothing could catch, as in a destructor."""
    structlog.get_logger().error("unhandled_exception", exc_info=failed.exc_value)
