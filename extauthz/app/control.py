"""The control connection between a supervisor and one worker: whole values, one after the other, each way.

Both ends are one program, started from the same files, and nothing else has the socket; so values are pickled.
"""

import asyncio
import pickle
from collections.abc import Collection
from typing import Any, NamedTuple

from extauthz.service.health import Readiness
from extauthz.telemetry.samples import Sample


class Question(NamedTuple):
    """The supervisor asks for a report; `placed` are the organizations that have metrics of their own."""

    number: int
    placed: Collection[str]


class Report(NamedTuple):
    """The answer to the question of that number."""

    question: int
    readiness: Readiness
    samples: list[Sample]


class Control:
    """One end of the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._size: int | None = None  # of a value that was begun: a reader that is cancelled loses nothing

    async def send(self, value: object) -> None:
        """Sends a value. Raises ConnectionError where the other end is gone."""
        body = pickle.dumps(value)
        self._writer.write(b"%d\n%b" % (len(body), body))
        await self._writer.drain()

    async def receive(self) -> Any:
        """The next value. Raises EOFError or ConnectionError where the other end is gone."""
        if self._size is None:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            self._size = int(line)
        body = await self._reader.readexactly(self._size)
        self._size = None
        return pickle.loads(body)  # noqa: S301 - the other end is ours

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()
