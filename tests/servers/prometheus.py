"""Prometheus from the distribution with the shipped files, which scrapes what a test runs."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from extauthz.demo import prometheus
from extauthz.demo.ports import free_port
from tests.servers.distribution import distribution_server
from tests.servers.waiting import until

INTERVAL = "500ms"  # between two scrapes, and between two evaluations of rules


class Series(NamedTuple):
    """One series of an answer: its labels, and its points as (Unix seconds, value), one for an instant query."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def value(self) -> float:
        """The newest value."""
        return self.points[-1][1]


class Prometheus(prometheus.Prometheus):
    """Scrapes `target` (`host:port`) with the shipped files; `files` are used in place of those of the same names.

    A context manager, or `start` and `stop`; all it writes is inside `folder`. A missing Prometheus fails the test in
    CI and skips it elsewhere. What Prometheus refuses raises ServerFailed, with its own words.
    """

    def __init__(self, folder: Path, target: str, *, files: Mapping[str, str] | None = None) -> None:
        port = free_port()
        shipped = prometheus.prometheus_files(target, port=port, interval=INTERVAL)
        program = distribution_server("prometheus")
        super().__init__(folder, shipped | dict(files or {}), port=port, program=program)

    async def instant(self, expression: str) -> list[Series]:
        """What an expression is now."""
        return _series(await self.ask("query", query=expression))

    async def range(self, expression: str, *, start: float, end: float, step: float) -> list[Series]:
        """What an expression was from `start` to `end` (Unix seconds), every `step` seconds."""
        return _series(await self.ask("query_range", query=expression, start=start, end=end, step=step))

    async def until(self, expression: str, seconds: float = 20) -> list[Series]:
        """What an expression is as soon as it is not empty; TimeoutError after so many seconds."""
        found: list[Series] = []

        async def holds() -> bool:
            found[:] = await self.instant(expression)
            return bool(found)

        await until(holds, seconds)
        return found

    async def ask(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer of `/api/v1/`, without blocking the event loop."""
        return await asyncio.to_thread(self.answer, f"{path}?{urlencode(parameters)}")


def _series(data: Mapping[str, Any]) -> list[Series]:
    if data["resultType"] == "scalar":
        return [Series({}, [_point(data["result"])])]
    return [
        Series(each["metric"], [_point(point) for point in each.get("values", [each.get("value")])])
        for each in data["result"]
    ]


def _point(told: Sequence[Any]) -> tuple[float, float]:
    return float(told[0]), float(told[1])
