"""What Grafana does with the dashboards: their panels, and how a query is substituted before it is sent."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "compose/grafana/dashboards"
BOARDS: Mapping[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FOLDER.glob("*.json")}
ALL = ".*"  # what a variable stands for while all of its values are chosen


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the dashboard `board`."""

    board: str
    json: dict[str, Any]

    @property
    def title(self) -> str:
        """What stands above it."""
        return str(self.json["title"])

    @property
    def promql(self) -> list[dict[str, Any]]:
        """Its queries of Prometheus."""
        return [query for query in self.json["targets"] if "expr" in query]

    @property
    def sql(self) -> list[dict[str, Any]]:
        """Its queries of PostgreSQL."""
        return [query for query in self.json["targets"] if "rawSql" in query]


@dataclass(frozen=True, slots=True)
class Range:
    """A time range in Unix seconds, and what is chosen in it; `window` stands for `$__rate_interval`."""

    start: float = 0
    end: float = 3600
    window: str = "1m"
    organization: str = ALL


def panels(board: str) -> Iterator[Panel]:
    """The panels of a dashboard that ask something, in their order."""
    return (Panel(board, each) for each in BOARDS[board]["panels"] if each["type"] != "row")


def substituted(expression: str, over: Range = Range()) -> str:
    """PromQL as it is sent, with everything chosen but the organization."""
    values = {
        "$__rate_interval": over.window,
        "$__interval": over.window,
        "$__range": f"{max(int(over.end - over.start), 1)}s",
        "$instance": ALL,
        "$dialect": ALL,
        "$organization": over.organization,
    }
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def substituted_sql(statement: str, over: Range) -> str:
    """SQL as it is sent: macros of the PostgreSQL data source and variables are put in."""
    start, end = (datetime.fromtimestamp(at, UTC).strftime("'%Y-%m-%dT%H:%M:%SZ'") for at in (over.start, over.end))
    statement = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 BETWEEN {start} AND {end}", statement)
    statement = statement.replace("$__timeFrom()", start).replace("$__timeTo()", end)
    statement = re.sub(
        r"\$__timeGroupAlias\(([\w.]+), *\$__interval\)",
        r'floor(extract(epoch from \1)/300)*300 AS "time"',
        statement,
    )
    statement = statement.replace("${organization:pipe}", over.organization)
    assert "$" not in statement, statement
    return statement
