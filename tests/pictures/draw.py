"""A dashboard as one SVG that is readable on light and dark pages."""

from collections.abc import Mapping
from html import escape
from typing import Any

from tests.pictures.answers import Answer
from tests.pictures.kinds import KINDS, Box

COLUMN, LINE, GAP, HEAD = 50, 26, 3, 22  # pixels of the grid, between panels, and of a panel's title
_LIGHT = ("#3274d9", "#56a64b", "#f2b705", "#e0752d", "#8f3bb8", "#37a2eb", "#c4162a", "#8a8f98")
_STYLE = (
    "<style>.page{fill:#f4f5f5}.card{fill:#fff;stroke:#d0d7de}.ink,.head{fill:#24292f}"
    ".soft{fill:#57606a}.grid{stroke:#d0d7de;stroke-width:.6}.limit{stroke:#cf222e;stroke-dasharray:5 4}"
    ".ok,.good{fill:#2da44e}.warn{fill:#bc4c00}.bad,.alarm{fill:#cf222e}.head{font-weight:600}"
    + "".join(f".c{n}{{fill:{c}}}.l{n}{{stroke:{c};fill:none;stroke-width:1.5}}" for n, c in enumerate(_LIGHT))
    + "@media(prefers-color-scheme:dark){.page{fill:#0d1117}.card{fill:#161b22;stroke:#30363d}.ink,.head{fill:#e6edf3}"
    ".soft{fill:#9da7b3}.grid{stroke:#30363d}}</style>"
)


def picture(board: Mapping[str, Any], answers: Mapping[int, Answer]) -> str:
    """The dashboard with what its panels got, by their ids."""
    panels = board["panels"]
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels) * LINE + GAP
    title = escape(board["title"])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN + GAP} {height}" role="img"'
        ' aria-labelledby="title" font-family="system-ui, sans-serif" font-size="11">\n'
        f'<title id="title">{title}: {escape(board["description"])}</title>\n{_STYLE}\n'
        f'<rect class="page" width="{24 * COLUMN + GAP}" height="{height}"/>\n'
        + "\n".join(_panel(each, answers.get(each["id"], Answer())) for each in panels)
        + "\n</svg>\n"
    )


def _panel(panel: Mapping[str, Any], answer: Answer) -> str:
    at = panel["gridPos"]
    x, y, w, h = at["x"] * COLUMN + GAP, at["y"] * LINE + GAP, at["w"] * COLUMN - GAP, at["h"] * LINE - GAP
    title = escape(panel["title"].replace("${organization:text}", "All"))
    if panel["type"] == "row":
        return f'<text class="head" x="{x + 4}" y="{y + 16}">▾ {title}</text>'
    drawn = KINDS[panel["type"]](panel, answer, Box(x, y + HEAD, w, h - HEAD))
    return (
        f'<rect class="card" x="{x}.5" y="{y}.5" width="{w - 1}" height="{h - 1}" rx="3"/>'
        f'<text class="head" x="{x + 8}" y="{y + 16}">{title}</text>{drawn}'
    )
