"""How each kind of panel is drawn: parts of SVG inside a box of a panel."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from tests.pictures.answers import Answer, Line
from tests.pictures.units import written

COLOURS = 8  # classes c0 to c7 of the style sheet
CHARACTER, LEGEND, AXIS = 6.2, 16, 62  # pixels of a character's width, the legend's height, the axis' width
MOST_LINES = 8
SHADES = 8  # of a heatmap


class Box(NamedTuple):
    """A place in the picture, in pixels."""

    x: float
    y: float
    w: float
    h: float


def number(panel: Mapping[str, Any], answer: Answer, box: Box) -> str:
    """The newest value, large; several side by side, each with its name."""
    defaults = panel["fieldConfig"]["defaults"]
    if answer.rows:
        names, figures = list(answer.rows[0])[:2]
        values = [(str(row[names]), float(str(row[figures]))) for row in answer.rows]
    else:
        values = [(line.name, line.points[-1][1]) for line in answer.lines if line.points]
    width = box.w / max(len(values), 1)
    parts = []
    for index, (name, value) in enumerate(values):
        colour = _colour_of(value, defaults.get("thresholds", {}).get("steps", []))
        middle, text = box.x + width * (index + 0.5), written(value, defaults["unit"])
        size = min(30, 1.7 * width / max(len(text), 4))
        below = "" if len(values) == 1 else _text(middle, box.y + box.h - 8, name, "soft", "middle")
        parts.append(
            f'<text class="{colour}" x="{middle:.0f}" y="{box.y + box.h / 2 + size / 3:.0f}" font-size="{size:.0f}"'
            f' font-weight="600" text-anchor="middle">{escape(text)}</text>{below}'
        )
    return "".join(parts)


def chart(panel: Mapping[str, Any], answer: Answer, box: Box) -> str:
    """Lines, areas on top of each other, or bars, with an axis, limits and a legend."""
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    lines = [Line(line.name, _finite(line)) for line in answer.lines if _finite(line)][:MOST_LINES]
    if not lines:
        return ""
    limits = [step["value"] for step in defaults.get("thresholds", {}).get("steps", []) if step["value"]]
    shown = _on_top(lines) if stacked else [(line, [0.0] * len(line.points)) for line in lines]
    top = max((value for line, _ in shown for _, value in line.points), default=0) or 1
    if limits and custom.get("thresholdsStyle") and top > 0.3 * min(limits):
        top = max(top, min(limits) * 1.1)
    plot = Box(box.x + AXIS, box.y + 4, box.w - AXIS - 6, box.h - LEGEND - 8)
    bars = custom.get("drawStyle") == "bars"
    draw = _bars if bars else _areas if stacked else _lines
    return (
        _axis(plot, top, defaults["unit"])
        + draw(shown, plot, top)
        + "".join(_limit(plot, limit / top) for limit in limits if limit <= top)
        + _legend(box, [line.name for line in lines])
    )


def bands(panel: Mapping[str, Any], answer: Answer, box: Box) -> str:
    """One band for each series, in two colours."""
    height = min((box.h - 8) / max(len(answer.lines), 1), 40)
    start, end = _span(answer.lines)
    parts = []
    for index, line in enumerate(answer.lines):
        y = box.y + 4 + index * height
        parts.append(_text(box.x + 6, y + 11, line.name, "soft"))
        width = (box.w - 12) / max(len(line.points), 1)
        away = [(at, value) for at, value in line.points if value]
        parts.append(
            f'<rect class="ok" x="{box.x + 6}" y="{y + 15:.0f}" width="{box.w - 12:.0f}" height="{height - 20:.0f}"/>'
        )
        for at, _ in away:
            x = box.x + 6 + (at - start) / max(end - start, 1) * (box.w - 12 - width)
            parts.append(
                f'<rect class="bad" x="{x:.0f}" y="{y + 15:.0f}" width="{width + 1:.0f}" height="{height - 20:.0f}"/>'
            )
    return "".join(parts)


def heat(panel: Mapping[str, Any], answer: Answer, box: Box) -> str:
    """Cells, the darker the more; a row for each bucket, from the smallest below."""
    buckets = sorted(answer.lines, key=lambda line: float(line.name))
    cells: list[tuple[int, int, float]] = []
    columns = max((len(line.points) for line in buckets), default=0)
    for row, line in enumerate(buckets):
        below = dict(buckets[row - 1].points) if row else {}
        for column, (at, value) in enumerate(line.points):
            if math.isfinite(value) and value - below.get(at, 0) > 0.01:
                cells.append((column, row, value - below.get(at, 0)))
    most = max((value for _, _, value in cells), default=1)
    plot = Box(box.x + AXIS, box.y + 4, box.w - AXIS - 6, box.h - 10)
    width, height = plot.w / max(columns, 1), plot.h / max(len(buckets), 1)
    shades: dict[int, str] = {}
    for column, row, value in cells:
        x, y = plot.x + column * width, plot.y + plot.h - (row + 1) * height
        shade = max(math.ceil(value / most * SHADES), 1)
        shades[shade] = shades.get(shade, "") + f"M{x:.0f} {y:.0f}h{width + 0.5:.0f}v{height:.0f}h-{width + 0.5:.0f}z"
    parts = [f'<path class="c0" opacity="{shade / SHADES:.2f}" d="{path}"/>' for shade, path in shades.items()]
    unit = panel["options"]["yAxis"]["unit"]
    for row, line in enumerate(buckets):
        if row % 3 == 0 and line.name != "+Inf":
            y = plot.y + plot.h - row * height - 2
            parts.append(_text(plot.x - 4, y, written(float(line.name), unit), "soft", "end"))
    return "".join(parts)


def listing(panel: Mapping[str, Any], answer: Answer, box: Box) -> str:
    """The first rows, as many as have room, with the columns that are shown."""
    overrides = {each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]}
    special = {name: {each["id"]: each.get("value") for each in each_of} for name, each_of in overrides.items()}
    every = dict.fromkeys(name for row in answer.rows for name in row)
    columns = [name for name in every if not special.get(name, {}).get("custom.hidden")]
    if not columns:
        return _text(box.x + box.w / 2, box.y + box.h / 2, "none", "soft", "middle")
    cells = [
        [written(row.get(name), special.get(name, {}).get("unit", "short")) for name in columns] for row in answer.rows
    ]
    longest = [max(len(row[index]) for row in [columns, *cells]) + 2 for index in range(len(columns))]
    unit = min((box.w - 12) / sum(longest), CHARACTER)
    edges = [box.x + 6 + sum(longest[:index]) * unit for index in range(len(columns))]
    rows = [columns, *cells[: int((box.h - 6) // 18) - 1]]
    return "".join(
        _text(edges[index], box.y + 14 + 18 * line, _cut(text, longest[index] * unit), "ink" if line else "soft")
        for line, row in enumerate(rows)
        for index, text in enumerate(row)
    )


KINDS = {"stat": number, "timeseries": chart, "state-timeline": bands, "heatmap": heat, "table": listing}


def _finite(line: Line) -> list[tuple[float, float]]:
    return [(at, value) for at, value in line.points if math.isfinite(value)]


def _span(lines: Sequence[Line]) -> tuple[float, float]:
    times = [at for line in lines for at, _ in line.points]
    return min(times, default=0), max(times, default=1)


def _on_top(lines: Sequence[Line]) -> list[tuple[Line, list[float]]]:
    """Each line on those before it, with where it begins."""
    levels: dict[float, float] = {}
    shown = []
    for line in lines:
        base = [levels.get(at, 0.0) for at, _ in line.points]
        raised = [(at, value + low) for (at, value), low in zip(line.points, base, strict=True)]
        levels |= dict(raised)
        shown.append((Line(line.name, raised), base))
    return shown


def _path(points: Sequence[tuple[float, float]], plot: Box, span: tuple[float, float], top: float) -> list[str]:
    width = max(span[1] - span[0], 1)
    return [
        f"{plot.x + (at - span[0]) / width * plot.w:.0f} {plot.y + plot.h * (1 - min(value / top, 1)):.0f}"
        for at, value in points
    ]


def _lines(shown: Sequence[tuple[Line, list[float]]], plot: Box, top: float) -> str:
    span = _span([line for line, _ in shown])
    return "".join(
        f'<path class="l{index % COLOURS}" d="M{"L".join(_path(line.points, plot, span, top))}"/>'
        for index, (line, _) in enumerate(shown)
    )


def _areas(shown: Sequence[tuple[Line, list[float]]], plot: Box, top: float) -> str:
    span = _span([line for line, _ in shown])
    parts = []
    for index, (line, base) in enumerate(shown):
        low = [(at, value) for (at, _), value in zip(line.points, base, strict=True)]
        outline = _path(line.points, plot, span, top) + _path(low[::-1], plot, span, top)
        parts.append(f'<path class="c{index % COLOURS}" opacity=".8" d="M{"L".join(outline)}Z"/>')
    return "".join(parts)


def _bars(shown: Sequence[tuple[Line, list[float]]], plot: Box, top: float) -> str:
    times = sorted({at for line, _ in shown for at, _ in line.points})
    width = min(plot.w / max(len(times), 1), 60)
    parts = []
    for index, (line, base) in enumerate(shown):
        for (at, value), low in zip(line.points, base, strict=True):
            if value > low:
                x = plot.x + times.index(at) / len(times) * plot.w
                y, height = plot.y + plot.h * (1 - value / top), plot.h * (value - low) / top
                parts.append(
                    f'<rect class="c{index % COLOURS}" x="{x:.0f}" y="{y:.1f}" width="{width - 1:.0f}"'
                    f' height="{height:.1f}"/>'
                )
    return "".join(parts)


def _axis(plot: Box, top: float, unit: str) -> str:
    return "".join(
        f'<path class="grid" d="M{plot.x:.0f} {y:.0f}H{plot.x + plot.w:.0f}"/>'
        + _text(plot.x - 4, y + 4, written(top * share, unit), "soft", "end")
        for share in (0, 0.5, 1)
        for y in [plot.y + plot.h * (1 - share)]
    )


def _limit(plot: Box, share: float) -> str:
    y = plot.y + plot.h * (1 - share)
    return f'<path class="limit" d="M{plot.x:.0f} {y:.0f}H{plot.x + plot.w:.0f}"/>'


def _legend(box: Box, names: Sequence[str]) -> str:
    x, parts = box.x + 8, []
    for index, name in enumerate(names):
        wide = 22 + len(name) * CHARACTER
        if x + wide > box.x + box.w:
            break
        y = box.y + box.h - 6
        parts.append(f'<rect class="c{index % COLOURS}" x="{x:.0f}" y="{y - 6:.0f}" width="9" height="4"/>')
        parts.append(_text(x + 12, y, name, "soft"))
        x += wide
    return "".join(parts)


def _colour_of(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return {"green": "good", "orange": "warn", "red": "alarm"}.get(reached[-1] if reached else "", "ink")


def _cut(text: str, width: float) -> str:
    most = max(int(width / CHARACTER) - 1, 1)
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{style}" x="{x:.0f}" y="{y:.0f}"{where}>{escape(text)}</text>'
