"""The control connection between a supervisor and one worker: JSON values, one after the other, each way."""

import asyncio
import json
from collections.abc import Collection
from typing import Any, NamedTuple

from extauthz.service.health import Readiness
from extauthz.telemetry.distribution import Seen
from extauthz.telemetry.samples import Sample


class ReportRequest(NamedTuple):
    """The supervisor asks for a report; `placed` are the organizations that have metrics of their own."""

    number: int
    placed: Collection[str]

    def to_json(self) -> list[object]:
        """One JSON value."""
        return [self.number, list(self.placed)]

    @classmethod
    def from_json(cls, value: Any) -> "ReportRequest":
        """The request of that value."""
        return cls(*value)


class Report(NamedTuple):
    """The answer to the request of that number."""

    number: int
    readiness: Readiness
    samples: list[Sample]

    def to_json(self) -> list[object]:
        """One JSON value."""
        readiness = self.readiness
        return [self.number, [readiness.ready, readiness.draining, readiness.stores], self.samples]

    @classmethod
    def from_json(cls, value: Any) -> "Report":
        """The report of that value."""
        number, readiness, samples = value
        return cls(number, Readiness(*readiness), [_sample(sample) for sample in samples])


def _sample(values: list[Any]) -> Sample:
    family, name, labels, value, seen = values
    pairs = tuple((label, text) for label, text in labels)
    return Sample(family, name, pairs, value, None if seen is None else Seen(*seen))


class Control:
    """One end of the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._size: int | None = None  # of a value that was begun: a reader that is cancelled loses nothing

    async def send(self, value: object) -> None:
        """Sends a JSON value. Raises ConnectionError where the other end is gone."""
        body = json.dumps(value, separators=(",", ":")).encode()
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
        return json.loads(body)

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()
