"""Logs: one line an event, JSON or for a person's eyes, on standard error. No line holds a credential."""

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress

import structlog

STANDARD_ERROR = 2


def configure(*, form: str, level: str) -> None:
    """Sets up this process's logs. `form` is `json` or `console`, `level` a name such as `info`."""
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Not the renderer's own tracebacks: they show local variables, and a credential is one.
        plain = structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain))
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    # Libraries speak only when something is wrong, and in our form.
    logging.basicConfig(handlers=[_Forward()], level=max(threshold, logging.WARNING), force=True)


def notes(lines: Iterable[str]) -> None:
    """Warns of settings that have no effect."""
    for line in lines:
        structlog.get_logger().warning("setting without effect", note=line)


class _Lines:
    """Writes whole lines, unbuffered. Where nobody reads them any more, the service goes on without."""

    def info(self, line: str) -> None:
        with suppress(OSError):
            os.write(STANDARD_ERROR, line.encode(errors="backslashreplace") + b"\n")

    debug = warning = error = critical = info


class _Forward(logging.Handler):
    """Hands a library's log record on. Its arguments stay out: a parser's words may quote what a client sent."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        structlog.get_logger().log(record.levelno, "library", logger=record.name, message=str(record.msg), error=kind)
