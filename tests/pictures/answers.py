"""What a panel got when it asked: series of points, or rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.servers.prometheus import Series

_LABEL = re.compile(r"\{\{ *(\w+) *\}\}")


@dataclass(frozen=True, slots=True)
class Line:
    """A named series; its points are (Unix seconds, value)."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The lines of a panel, or its rows by column."""

    lines: list[Line] = field(default_factory=list)
    rows: list[Mapping[str, object]] = field(default_factory=list)


def named(query: Mapping[str, Any], series: Series) -> str:
    """What the legend says of a series."""
    form = query.get("legendFormat", "")
    return _LABEL.sub(lambda found: series.labels.get(found[1], ""), form).strip() or query["refId"]


def lines_of_rows(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Rows of a time series of PostgreSQL as lines: one for each `metric`, or for each column beside `time`."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        at = row["time"].timestamp() if hasattr(row["time"], "timestamp") else float(row["time"])
        values = {name: value for name, value in row.items() if name not in {"time", "metric"}}
        for name, value in values.items():
            lines.setdefault(row.get("metric", name), []).append((at, float(value)))
    return [Line(name, points) for name, points in lines.items()]
