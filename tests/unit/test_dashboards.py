"""The dashboards of `compose/grafana/dashboards/`, as Grafana reads them."""

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import promql_parser
import pytest
import yaml

from compose.grafana.source.__main__ import FOLDER, documents
from tests.servers.grafana import BOARDS, Panel, panels, substituted

ROOT = Path(__file__).parents[2]
SOURCES = {"prometheus": "prometheus", "postgresql": "grafana-postgresql-datasource"}  # types by uid
BUILT_IN = re.compile(r"__\w+")  # of Grafana itself: $__from, $__rate_interval, ${__data.fields.id}
_VARIABLE = re.compile(r"\$\{?(\w+)")
_METRIC = re.compile(r"\b(?:extauthz_\w+|redis_down_events_total|rate_limiter\w+|daily_quota_hits\w+|tenant_quota\w+)")

every_board = pytest.mark.parametrize("name", sorted(BOARDS))


def everything(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text in a dashboard, with the name of its field."""

    def walk(name: str, value: object) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, each in value.items():
                yield from walk(key, each)
        elif isinstance(value, list):
            for each in value:
                yield from walk(name, each)
        elif isinstance(value, str):
            yield name, value

    return walk("", board)


def urls(name: str) -> set[str]:
    """Every address that a dashboard leads to."""
    return {text for field, text in everything(BOARDS[name]) if field == "url" and text}


def test_the_files_are_what_the_code_makes() -> None:
    """`make dashboards` changes nothing; there is no other file beside them."""
    assert {file.name: file.read_text("utf-8") for file in FOLDER.iterdir()} == documents()


def test_names_are_the_contract_s() -> None:
    """Five dashboards, each with a uid of its own."""
    assert set(BOARDS) == {"overview", "customers", "stores", "keys", "workers"}
    assert {board["uid"] for board in BOARDS.values()} == {f"extauthz-{name}" for name in BOARDS}
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@every_board
def test_panels_have_ids_and_titles_of_their_own(name: str) -> None:
    everyone = BOARDS[name]["panels"]
    assert len({each["id"] for each in everyone}) == len(everyone)
    assert len({each["title"] for each in everyone}) == len(everyone)


@every_board
def test_the_grid_has_no_overlap(name: str) -> None:
    """24 columns, each line full, and no cell twice."""
    places = [each["gridPos"] for each in BOARDS[name]["panels"]]
    cells = [
        {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])} for at in places
    ]
    assert all(0 <= x < 24 for cell in cells for x, _ in cell)
    assert not any(one & other for one, other in combinations(cells, 2))
    height = max(y for cell in cells for _, y in cell) + 1
    assert sum(map(len, cells)) == 24 * height


@every_board
def test_each_panel_says_what_it_shows_and_what_to_do(name: str) -> None:
    """A unit, a description, and what to do about it."""
    for panel in panels(name):
        shows, _, do = panel.json["description"].partition("\n\n**What to do:** ")
        assert len(shows) > 20, panel.title
        assert len(do) > 20, panel.title
        assert panel.json["fieldConfig"]["defaults"]["unit"], panel.title
        assert panel.json["options"], panel.title  # Grafana's own checks of a null there differ by version


@every_board
def test_data_sources_are_those_that_are_provisioned(name: str) -> None:
    """Panels, queries, variables and annotations name one by its uid."""
    board = BOARDS[name]
    named = [variable["datasource"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    named += [each["datasource"] for each in board["annotations"]["list"]]
    for panel in panels(name):
        named += [panel.json["datasource"], *(query["datasource"] for query in panel.json["targets"])]
        assert len({query["refId"] for query in panel.json["targets"]}) == len(panel.json["targets"])
    assert named
    assert all(SOURCES[source["uid"]] == source["type"] for source in named)
    provisioned = yaml.safe_load((ROOT / "compose/grafana/provisioning/datasources/datasources.yaml").read_text())
    types = {source["uid"]: source["type"] for source in provisioned["datasources"]}
    assert types == SOURCES | {"jaeger": "jaeger"}


@every_board
def test_variables_are_used_and_known(name: str) -> None:
    """Each variable is used by a query or a link; each `$name` is a variable, or Grafana's own."""
    board = BOARDS[name]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    used = {
        found
        for field, text in everything({key: value for key, value in board.items() if key != "templating"})
        if field in {"expr", "rawSql", "url", "title"}
        for found in _VARIABLE.findall(text)
    }
    assert {each for each in used if not BUILT_IN.fullmatch(each)} == set(variables)


@every_board
def test_links_lead_somewhere(name: str) -> None:
    """To another of the dashboards, to a page of docs/, or to Explore with a data source that is there."""
    found = urls(name)
    assert any(link["type"] == "dashboards" and link["tags"] == ["extauthz"] for link in BOARDS[name]["links"])
    for url in found:
        if url.startswith("/d/"):
            uid, _, parameters = url.removeprefix("/d/").partition("?")
            target = BOARDS[uid.removeprefix("extauthz-")]
            variables = {variable["name"] for variable in target["templating"]["list"]}
            assert set(re.findall(r"var-(\w+)=", parameters)) <= variables
        elif url.startswith("/explore?"):
            panes = json.loads(unquote(url.partition("panes=")[2]))
            assert {pane["datasource"] for pane in panes.values()} == {"jaeger"}
        else:
            assert url.startswith("${docs:raw}/"), url
            assert (ROOT / "docs" / url.removeprefix("${docs:raw}/")).exists(), url


@every_board
def test_every_expression_is_promql(name: str) -> None:
    """Of panels and annotations, once Grafana has put its variables in."""
    expressions = [query["expr"] for panel in panels(name) for query in panel.promql]
    expressions += [each["expr"] for each in BOARDS[name]["annotations"]["list"]]
    for expression in expressions:
        promql_parser.parse(substituted(expression))


def test_every_metric_that_is_asked_for_is_documented() -> None:
    """docs/reference/metrics.md has each of them, so that a renamed metric leaves no empty panel."""
    documented = (ROOT / "docs/reference/metrics.md").read_text()
    asked = {
        found.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        for name in BOARDS
        for panel in panels(name)
        for query in panel.promql
        for found in _METRIC.findall(re.sub(r"\w+:\w+:\w+", "", query["expr"]))
    }
    assert len(asked) > 30
    assert {each for each in asked if each not in documented} == set()


def test_series_of_one_panel_have_names() -> None:
    """Where a panel asks more than once, each query names its series."""
    for name in BOARDS:
        for panel in panels(name):
            several: list[Panel] = [panel] if len(panel.promql) > 1 else []
            assert all(query.get("legendFormat") for each in several for query in each.promql), panel.title


def test_the_page_brings_them_into_another_grafana(tmp_path: Path) -> None:
    """Its commands replace addresses and the uid, and leave none of the old ones."""
    page = (ROOT / "docs/howto/grafana.md").read_text()
    commands = [block for block in re.findall(r"```sh\n(.+?)```", page, re.DOTALL) if "psql" not in block]
    assert len(commands) == 3
    (tmp_path / "compose").symlink_to(ROOT / "compose")
    for block in commands:
        subprocess.run(["/bin/sh", "-euc", block], cwd=tmp_path, check=True)
    sources = yaml.safe_load((tmp_path / "grafana/provisioning/datasources/datasources.yaml").read_text())
    by_uid = {source["uid"]: source for source in sources["datasources"]}
    assert by_uid["prometheus"]["url"] == "https://prometheus.your.company"
    assert by_uid["postgresql"]["url"] == "db.your.company:5432"
    assert by_uid["postgresql"]["jsonData"]["sslmode"] == "verify-full"
    for file in (tmp_path / "grafana/dashboards").iterdir():
        text = file.read_text()
        assert '"uid": "your-uid"' in text
        assert '"uid": "prometheus"' not in text
        assert "wiki.your.company" in text
        assert "example.com" not in text


@every_board
def test_the_docs_have_a_picture_of_each(name: str) -> None:
    """With all of its panels, and small enough for a page."""
    picture = ROOT / f"docs/howto/dashboards/{name}.svg"
    drawn = ElementTree.parse(picture).getroot()
    texts = {"".join(each.itertext()) for each in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {panel.title for panel in panels(name)} <= texts
    assert picture.stat().st_size < 60_000


def test_dashboards_are_provisioned() -> None:
    """The provider reads the folder at which compose.yaml mounts them."""
    file = ROOT / "compose/grafana/provisioning/dashboards/dashboards.yaml"
    (provider,) = yaml.safe_load(file.read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
