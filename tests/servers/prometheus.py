"""Prometheus from the distribution, which scrapes what a test runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from aiohttp import ClientSession

from extauthz.demo import prometheus as demo
from extauthz.demo.ports import free_port
from tests.servers.distribution import distribution_server
from tests.servers.waiting import until

INTERVAL = "500ms"  # between two scrapes, and between two evaluations of rules
JOB = "extauthz"  # as in compose/prometheus/prometheus.yml


class QueryFailed(AssertionError):
    """Prometheus refused a query; the text is its own."""


class Series(NamedTuple):
    """One series of an answer: its labels, and its points as (Unix seconds, value), one for an instant query."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def value(self) -> float:
        """The newest value."""
        return self.points[-1][1]


class Prometheus(demo.Prometheus):
    """Scrapes `targets` (`host:port`, each an instance of the job `extauthz`) and evaluates the files `rules`.

    A context manager, or `start` and `stop`; all it writes is inside `folder`. A missing Prometheus fails the test in
    CI and skips it elsewhere.
    """

    def __init__(
        self, folder: Path, targets: Sequence[str], *, rules: Sequence[Path] = (), interval: str = INTERVAL
    ) -> None:
        files = {demo.CONFIGURATION: yaml.safe_dump(configuration(targets, rules, interval))}
        super().__init__(folder, files, port=free_port(), program=distribution_server("prometheus"))

    async def instant(self, expression: str) -> list[Series]:
        """What an expression is now. Raises QueryFailed."""
        return await self._query("query", query=expression)

    async def range(self, expression: str, *, start: float, end: float, step: float) -> list[Series]:
        """What an expression was from `start` to `end` (Unix seconds), every `step` seconds. Raises QueryFailed."""
        return await self._query("query_range", query=expression, start=start, end=end, step=step)

    async def until(self, expression: str, seconds: float = 20) -> list[Series]:
        """What an expression is as soon as it is not empty; TimeoutError after so many seconds."""
        found: list[Series] = []

        async def holds() -> bool:
            found[:] = await self.instant(expression)
            return bool(found)

        await until(holds, seconds)
        return found

    async def get(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer of `/api/v1/`. Raises QueryFailed."""
        async with (
            ClientSession() as client,
            client.get(f"{self.url}/api/v1/{path}", params={k: str(v) for k, v in parameters.items()}) as answer,
        ):
            told = await answer.json()
        if told["status"] != "success":
            raise QueryFailed(f"{told['error']}: {json.dumps(parameters)}")
        return told["data"]

    async def _query(self, path: str, **parameters: str | float) -> list[Series]:
        data = await self.get(path, **parameters)
        if data["resultType"] == "scalar":
            return [Series({}, [_point(data["result"])])]
        return [
            Series(each["metric"], [_point(point) for point in each.get("values", [each.get("value")])])
            for each in data["result"]
        ]


def configuration(targets: Sequence[str], rules: Sequence[Path], interval: str) -> dict[str, Any]:
    """What Prometheus is told, as YAML has it."""
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(file.absolute()) for file in rules],
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": list(targets)}]}],
    }


def _point(told: Sequence[Any]) -> tuple[float, float]:
    return float(told[0]), float(told[1])
