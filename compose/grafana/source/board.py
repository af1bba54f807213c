"""What the dashboards have in common: names, variables, links to each other, and marks for what happened."""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from compose.grafana.source.panels import DOCS, Panel
from compose.grafana.source.queries import JAEGER, POSTGRESQL, PROMETHEUS, promql, statement

TAG = "extauthz"
ALL = VariableOption(selected=True, text="All", value="$__all")
# Where docs/ is published; alerts.yml has the same address.
PUBLISHED = "https://example.com/extauthz/docs"


class Row(NamedTuple):
    """Panels under a heading; the widths of each line add up to 24."""

    title: str
    panels: Sequence[Panel]


class _Mark(model.AnnotationQuery):
    """An annotation from Prometheus: a mark for each series that is not empty, with the fields that the SDK lacks."""

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"step": "15s", "titleFormat": self.name, "textFormat": self.text}

    text = ""


def uid(name: str) -> str:
    """The uid of the dashboard in `dashboards/NAME.json`."""
    return f"extauthz-{name}"


def address(name: str, *parameters: str) -> str:
    """Where the dashboard of that name is, with the time range and variables as they are here."""
    return f"/d/{uid(name)}?" + "&".join(["${__url_time_range}", *parameters])


def board(
    name: str, title: str, description: str, *, variables: Sequence[dashboard.QueryVariable], rows: Sequence[Row]
) -> model.Dashboard:
    """A whole dashboard; its panels are numbered in their order."""
    built = dashboard.Dashboard(f"extauthz / {title}").uid(uid(name)).description(description).tags([TAG])
    built.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    built.variables(list(variables)).links(list(_links()))
    for row in rows:
        built.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            built.with_panel(panel)
    whole = built.build()
    whole.templating.list_val = [*(whole.templating.list_val or []), _docs()]
    whole.annotations.list_val = _marks()
    for number, each in enumerate(whole.panels or [], 1):
        each.id_val = number
    return whole


def instances() -> dashboard.QueryVariable:
    """`$instance`: the processes that Prometheus scrapes."""
    return _choice("instance", "Instance", "label_values(extauthz_build_info, instance)", PROMETHEUS)


def dialects() -> dashboard.QueryVariable:
    """`$dialect`: the ways in which proxies ask."""
    asked = promql("label_values(extauthz_decisions_total{@instance}, dialect)").build().expr
    return _choice("dialect", "Dialect", asked, PROMETHEUS)


def organizations() -> dashboard.QueryVariable:
    """`$organization`: the customers, shown by name and asked for by id."""
    return _choice("organization", "Organization", statement("organizations"), POSTGRESQL)


def traces() -> str:
    """Where Grafana searches Jaeger for the service's checks of the time range."""
    query = '{"refId":"A","queryType":"search","service":"extauthz"}'
    pane = f'{{"datasource":"{JAEGER}","queries":[{query}],"range":{{"from":"${{__from}}","to":"${{__to}}"}}}}'
    panes = quote(f'{{"traces":{pane}}}', safe="")
    for name in ("from", "to"):
        panes = panes.replace(quote(f"${{__{name}}}", safe=""), f"${{__{name}}}")
    return f"/explore?schemaVersion=1&panes={panes}"


def _choice(name: str, label: str, query: str, source: DataSourceRef) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(source)
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    return variable.multi(True).include_all(True).all_value(".*").current(ALL)


def _docs() -> model.VariableModel:
    """`$docs`, which is not shown: where links to documentation lead."""
    docs = dashboard.ConstantVariable("docs").label("Documentation").value(PUBLISHED).build()
    docs.hide = VariableHide.HIDE_VARIABLE
    return docs


def _links() -> Sequence[dashboard.DashboardLink]:
    others = dashboard.DashboardLink("extauthz").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return [
        others.include_vars(True).keep_time(True),
        dashboard.DashboardLink("Traces").url(traces()).icon("bolt").target_blank(True),
        dashboard.DashboardLink("Runbooks").url(f"{DOCS}/howto/runbooks/").icon("doc").target_blank(True),
    ]


def _marks() -> list[model.AnnotationQuery]:
    """What happened: each is true for a while after it did, so that no scrape of it is missed."""
    marks = (
        (
            "A store went away or came back",
            "{{store}}",
            "red",
            "max by (store) (changes(extauthz_degraded{@}[1m])) > 0",
        ),
        (
            "Another version",
            "{{version}} {{commit}}",
            "blue",
            "count by (version, commit) (extauthz_build_info{@})"
            " unless count by (version, commit) (extauthz_build_info{@} offset 1m)",
        ),
        ("A worker was started again", "{{instance}}", "orange", "increase(extauthz_worker_restarts_total{@}[1m]) > 0"),
    )
    return [
        _mark(name, text, colour, promql(expression.replace("@", "@instance")).build().expr)
        for name, text, colour, expression in marks
    ]


def _mark(name: str, text: str, colour: str, expression: str) -> _Mark:
    mark = _Mark(name=name, datasource=PROMETHEUS, enable=True, hide=False, icon_color=colour, expr=expression)
    mark.text = text
    return mark
