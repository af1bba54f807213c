"""Whether the decision log can be written where the settings want it: a mistake is told before anything starts."""

import os
from collections.abc import Iterator
from pathlib import Path

from extauthz.config.document import plain
from extauthz.config.settings import Settings
from extauthz.config.values import OTLP, STDOUT

SETTING = "EXTAUTHZ_DECISION_LOG_TO"


def flaws(settings: Settings) -> Iterator[tuple[str, str]]:
    """What keeps decisions from being logged: the name of a setting, and what is wrong."""
    target = settings.decision_log_to
    if settings.decision_log is None or target == STDOUT:
        return
    if target == OTLP:
        if not settings.otlp_url("logs"):
            yield SETTING, "otlp needs OTEL_EXPORTER_OTLP_ENDPOINT, such as http://127.0.0.1:4318"
        return
    path, shown = Path(target), plain(target)
    try:
        if not path.parent.is_dir():
            yield SETTING, f"{shown} is in a folder that does not exist; make it, writable for this user"
        elif path.is_dir():
            yield SETTING, f"{shown} is a folder; name a file in it"
        elif not os.access(path if path.exists() else path.parent, os.W_OK):
            yield SETTING, f"{shown} cannot be written by this user; change the owner or mode of it or its folder"
    except (OSError, ValueError) as error:  # a path that is too long, or through a file
        reason = error.strerror if isinstance(error, OSError) else None
        yield SETTING, f"{shown} cannot be used as a path: {reason or 'malformed'}"
