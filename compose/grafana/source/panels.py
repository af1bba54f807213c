"""The kinds of panels, each with a unit, a description, and what to do about what it shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

from compose.grafana.source.queries import POSTGRESQL, PROMETHEUS, Query, Sql

Panel = stat.Panel | timeseries.Panel | statetimeline.Panel | heatmap.Panel | table.Panel
Kind = TypeVar("Kind", stat.Panel, timeseries.Panel, statetimeline.Panel, heatmap.Panel, table.Panel)
Steps = Mapping[float, str]  # the colour from each value on

DOCS = "${docs:raw}"  # the address at which docs/ of this project is published
GREEN, ORANGE, RED = "green", "orange", "red"
OK_OR_AWAY = {"0": ("ok", GREEN), "1": ("away", RED)}
NO_LIMIT: Steps = {}


@dataclass(frozen=True, slots=True)
class Note:
    """What a panel shows, what to do, the page of docs/howto/runbooks/ that says more, and further links."""

    shows: str
    do: str
    runbook: str = ""
    links: Sequence[tuple[str, str]] = ()  # texts and addresses

    @property
    def text(self) -> str:
        """The panel's description."""
        return f"{self.shows}\n\n**What to do:** {self.do}"

    @property
    def all_links(self) -> list[tuple[str, str]]:
        """The links in the panel's corner."""
        runbook = [("Runbook", f"{DOCS}/howto/runbooks/{self.runbook}.md")] if self.runbook else []
        return [*self.links, *runbook]


def number(title: str, note: Note, *queries: Query, unit: str, steps: Steps = NO_LIMIT, width: int = 4) -> stat.Panel:
    """The newest value, large, coloured by `steps`, over its course where there is one."""
    panel = stat.Panel().unit(unit).thresholds(_thresholds(steps)).height(4)
    panel.color_mode(BigValueColorMode.BACKGROUND if steps else BigValueColorMode.NONE)
    panel.graph_mode(BigValueGraphMode.NONE if _on_postgresql(queries) else BigValueGraphMode.AREA)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(_on_postgresql(queries)))
    return _finished(panel, title, note, queries, width=width)


def trend(
    title: str, note: Note, *queries: Query, unit: str, steps: Steps = NO_LIMIT, width: int = 12
) -> timeseries.Panel:
    """Lines over time; the values of `steps` are drawn as limits."""
    panel = timeseries.Panel().unit(unit).min(0).height(8).fill_opacity(8).line_width(1)
    panel.show_points(VisibilityMode.NEVER)
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    panel.legend(
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    if steps:
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    return _finished(panel, title, note, queries, width=width)


def stack(title: str, note: Note, *queries: Query, unit: str, width: int = 12) -> timeseries.Panel:
    """Areas over time, on top of each other: parts of a whole."""
    panel = trend(title, note, *queries, unit=unit, width=width).fill_opacity(40)
    return panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))


def bars(title: str, note: Note, *queries: Query, unit: str, width: int = 12) -> timeseries.Panel:
    """Bars over time, on top of each other: what happened in each span."""
    return stack(title, note, *queries, unit=unit, width=width).draw_style(GraphDrawStyle.BARS).fill_opacity(80)


def states(
    title: str, note: Note, *queries: Query, names: Mapping[str, tuple[str, str]], width: int = 12
) -> statetimeline.Panel:
    """One band for each series, by the `names` (text and colour) of its values."""
    mapping = ValueMap({value: ValueMappingResult(text=text, color=color) for value, (text, color) in names.items()})
    panel = statetimeline.Panel().unit("none").mappings([mapping]).height(8).show_value(VisibilityMode.NEVER)
    panel.row_height(0.8).fill_opacity(80)
    return _finished(panel, title, note, queries, width=width)


def spread(title: str, note: Note, query: Query, *, unit: str, width: int = 12) -> heatmap.Panel:
    """How values lie, over time: the darker, the more."""
    panel = heatmap.Panel().unit("reqps").height(8).calculate(False)
    panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32))
    panel.y_axis(heatmap.YAxisConfig().unit(unit)).cell_gap(1).show_legend()
    return _finished(panel, title, note, [query], width=width)


def listing(
    title: str,
    note: Note,
    query: Query,
    *,
    columns: Mapping[str, Sequence[DynamicConfigValue]],
    width: int = 24,
    hidden: Sequence[str] = (),
) -> table.Panel:
    """A table; `columns` says what is special of each, those that are `hidden` are there for links alone."""
    panel = table.Panel().unit("short").height(8).no_value("none").show_header(True)
    for name, special in columns.items():
        panel.override_by_name(name, list(special))
    for name in hidden:
        panel.override_by_name(name, [DynamicConfigValue("custom.hidden", True)])
    return _finished(panel, title, note, [query], width=width)


def column(unit: str = "", *, url: str = "", width: int = 0, steps: Steps = NO_LIMIT) -> list[DynamicConfigValue]:
    """What is special of a table's column: its unit, where its cells lead, its width, its bar and colours."""
    special: list[DynamicConfigValue] = []
    if unit:
        special.append(DynamicConfigValue("unit", unit))
    if url:
        special.append(DynamicConfigValue("links", [{"title": "Open", "url": url}]))
    if width:
        special.append(DynamicConfigValue("custom.width", width))
    if steps:
        special.append(DynamicConfigValue("thresholds", _thresholds(steps).build()))
        special.append(DynamicConfigValue("custom.cellOptions", {"type": "gauge", "mode": "basic"}))
        special.append(DynamicConfigValue("min", 0))
        special.append(DynamicConfigValue("max", 1))
    return special


def _finished(panel: Kind, title: str, note: Note, queries: Sequence[Query], *, width: int) -> Kind:
    panel.title(title).description(note.text).span(width)
    panel.datasource(POSTGRESQL if _on_postgresql(queries) else PROMETHEUS)
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(query.ref_id(letter))
    panel.links([dashboard.DashboardLink(text).url(url).target_blank(True) for text, url in note.all_links])
    return panel


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    base = [Threshold(None, "transparent" if not steps else GREEN)]
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps(base + [Threshold(value, colour) for value, colour in steps.items()])
    )


def _on_postgresql(queries: Sequence[Query]) -> bool:
    return all(isinstance(query, Sql) for query in queries)
