"""What panels ask: PromQL of Prometheus, SQL of PostgreSQL."""

from pathlib import Path
from typing import Self

from grafana_foundation_sdk.builders import prometheus as builder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef("prometheus", "prometheus")
POSTGRESQL = DataSourceRef("grafana-postgresql-datasource", "postgresql")
JAEGER = "jaeger"

_STATEMENTS = Path(__file__).parent / "sql"
# Short for the selections of a dashboard's variables, and for what many expressions have in common.
_SHORT = {
    "@checks": 'instance=~"$instance", dialect=~"$dialect"',
    "@instance": 'instance=~"$instance"',
    "@unavailable": 'decision=~"authentication_unavailable|limits_unavailable"',
    "[@]": "[$__rate_interval]",
    "@organization": 'instance=~"$instance", organization=~"$organization"',
}


def promql(expression: str, legend: str = "") -> builder.Dataquery:
    """Series over time. In `expression`, the keys of `_SHORT` stand for what they name."""
    for short, whole in _SHORT.items():
        expression = expression.replace(short, whole)
    query = builder.Dataquery().expr(expression).datasource(PROMETHEUS)
    return query.legend_format(legend) if legend else query


def buckets(expression: str) -> builder.Dataquery:
    """The buckets of a histogram over time, for a heatmap."""
    return promql(expression, "{{le}}").format(PromQueryFormat.HEATMAP)


def rows(expression: str) -> builder.Dataquery:
    """The newest values as rows of a table, one for each series, with its labels as columns."""
    return promql(expression).format(PromQueryFormat.TABLE).instant()


def statement(name: str) -> str:
    """The text of `sql/NAME.sql`."""
    return (_STATEMENTS / f"{name}.sql").read_text("utf-8").strip()


class _SqlQuery(Dataquery):
    """A query of Grafana's PostgreSQL data source, which the SDK has no class for."""

    def __init__(self, text: str, form: str) -> None:
        self.text = text
        self.form = form
        self.ref_id = ""

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": POSTGRESQL,
            "editorMode": "code",
            "format": self.form,
            "rawQuery": True,
            "rawSql": self.text,
            "refId": self.ref_id,
        }


class Sql(Builder[_SqlQuery]):
    """The statement in `sql/NAME.sql`: rows of a table, or series over time."""

    def __init__(self, name: str, *, series: bool = False) -> None:
        self._internal = _SqlQuery(statement(name), "time_series" if series else "table")

    def ref_id(self, ref_id: str) -> Self:
        """The letter of the query in its panel."""
        self._internal.ref_id = ref_id
        return self

    def build(self) -> _SqlQuery:
        """The query."""
        return self._internal


Query = builder.Dataquery | Sql
