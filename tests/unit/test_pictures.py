"""The pictures of dashboards show the values of the answers."""

from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from tests.pictures.answers import Answer, Line, lines_of_rows, named
from tests.pictures.draw import picture
from tests.pictures.units import written
from tests.servers.prometheus import Series


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0613, "s", "61.3 ms"),
        (0, "s", "0 s"),
        (93.6 * 86400, "s", "93.6 d"),
        (36_500 * 86400, "s", "100 years"),
        (0.4921, "percentunit", "49.2 %"),
        (1630, "short", "1.63K"),
        (40.44, "reqps", "40.4 req/s"),
        (258_000_000, "bytes", "246 MiB"),
        (None, "short", ""),
        ("revoked", "short", "revoked"),
        (datetime(2026, 11, 30, 10, tzinfo=UTC), "dateTimeAsIso", "2026-11-30 10:00:00"),
    ],
)
def test_values_are_written_as_grafana_writes_them(value: object, unit: str, text: str) -> None:
    assert written(value, unit) == text


def test_a_series_is_named_by_its_labels() -> None:
    series = Series({"store": "redis"}, [(0, 1)])
    assert named({"legendFormat": "{{store}} of {{instance}}", "refId": "A"}, series) == "redis of"
    assert named({"refId": "B"}, series) == "B"


def test_rows_of_a_time_series_are_lines() -> None:
    """By their metric, or by the name of each column."""
    rows = [{"time": 0, "metric": "a", "n": 1}, {"time": 1, "metric": "b", "n": 2}, {"time": 1, "metric": "a", "n": 3}]
    assert lines_of_rows(rows) == [Line("a", [(0, 1), (1, 3)]), Line("b", [(1, 2)])]
    assert lines_of_rows([{"time": 5, "x": 1, "y": 2}]) == [Line("x", [(5, 1)]), Line("y", [(5, 2)])]


def test_a_picture_has_every_panel() -> None:
    """Its number, its line from the first point to the last, its rows, and no column that is hidden."""
    field = {"defaults": {"unit": "none", "thresholds": {"steps": [{"value": None, "color": "green"}]}}}
    hidden = {"matcher": {"options": "id"}, "properties": [{"id": "custom.hidden", "value": True}]}
    kinds = {"stat": field, "timeseries": field, "table": field | {"overrides": [hidden]}}
    panels = [
        {"id": id_, "type": kind, "title": f"of {kind}", "fieldConfig": config}
        | {"gridPos": {"x": 0, "y": 8 * id_, "w": 24, "h": 8}}
        for id_, (kind, config) in enumerate(kinds.items())
    ]
    line = Line("up <1>", [(0, 0.0), (10, 4.0)])
    answers = {0: Answer([line]), 1: Answer([line]), 2: Answer([], [{"name": "acme", "id": "hidden"}])}
    text = picture({"title": "t", "description": "d", "panels": panels}, answers)
    drawn = ElementTree.fromstring(text)
    texts = ["".join(each.itertext()) for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"of stat", "of timeseries", "of table", "4", "up <1>", "acme"} <= set(texts)
    assert not {"hidden", "id"} & set(texts)
    paths = [each.get("d", "") for each in drawn.iter("{http://www.w3.org/2000/svg}path") if each.get("class") == "l0"]
    assert len(paths) == 1
    assert paths[0].count("L") == 1
