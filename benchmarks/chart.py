"""Bars with ranges, as SVG that is readable on light and dark pages."""

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median

WIDTH, LINE, TOP, LABELS, VALUES = 820, 26, 48, 290, 100
_STYLE = """  <style>
    .card { fill: #ffffff; stroke: #d0d7de }
    .ink { fill: #24292f }
    .bar { fill: #54aeff }
    .range { stroke: #0550ae; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      .card { fill: #161b22; stroke: #30363d }
      .ink { fill: #e6edf3 }
      .bar { fill: #1f6feb }
      .range { stroke: #a5d6ff }
    }
  </style>
"""


def bars(title: str, rows: Mapping[str, Sequence[float]], *, form: str) -> str:
    """A bar for the median of each row, a line on it for the range, and the number."""
    height = TOP + LINE * len(rows) + 14
    scale = (WIDTH - LABELS - VALUES) / max(max(values) for values in rows.values())
    parts = [_bar(TOP + LINE * number, *row, scale, form) for number, row in enumerate(rows.items())]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title"'
        ' font-family="system-ui, sans-serif" font-size="13">\n'
        f'  <title id="title">{escape(title)}</title>\n{_STYLE}'
        f'  <rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>\n'
        f'  <text class="ink" x="16" y="28" font-size="15" font-weight="600">{escape(title)}</text>\n'
        + "".join(parts)
        + "</svg>\n"
    )


def _bar(y: int, name: str, values: Sequence[float], scale: float, form: str) -> str:
    middle, low, high = (LABELS + value * scale for value in (median(values), min(values), max(values)))
    text = y + LINE // 2 + 2
    return (
        f'  <text class="ink" x="{LABELS - 8}" y="{text}" text-anchor="end">{escape(name)}</text>\n'
        f'  <rect class="bar" x="{LABELS}" y="{y + 2}" width="{middle - LABELS:.1f}" height="{LINE - 8}" rx="2"/>\n'
        f'  <line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{y + LINE // 2 - 2}" y2="{y + LINE // 2 - 2}"/>\n'
        f'  <text class="ink" x="{high + 8:.1f}" y="{text}">{median(values):{form}}</text>\n'
    )
