"""Every panel of the dashboards, asked of a real Prometheus and a real PostgreSQL while extauthz works."""

import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from time import time

import psycopg
import pytest
import pytest_asyncio
import yaml
from psycopg import errors as pg
from psycopg.rows import dict_row

from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis
from tests.servers.grafana import BOARDS, Panel, Range, panels, substituted, substituted_sql
from tests.servers.monitored import Monitored, monitored
from tests.servers.prometheus import Series
from tests.servers.waiting import until

ROOT = Path(__file__).parents[2]
GRANTS = (ROOT / "compose/postgres/grants.sql").read_bytes()
# The role, as the page makes it; there is no password to ask for in tests.
(ROLE,) = re.findall(r"```sql\n(.+?)```", (ROOT / "docs/howto/grafana.md").read_text(), re.DOTALL)
SOURCES = yaml.safe_load((ROOT / "compose/grafana/provisioning/datasources/datasources.yaml").read_text())[
    "datasources"
]
ALL = [panel for name in sorted(BOARDS) for panel in panels(name)]
STEP = 1.0  # seconds between two points
# What is zero in a healthy service on a quiet machine, and would take a broken reader, disk or collector to be more.
ZERO = {
    "Burn rate: latency",
    "Clocks",
    "Epoch of Redis",
    "Event loop lag",
    "Later than 100 ms",
    "Log lines",
    "Tail",
    "Usage refused",
    "Waiting for a connection",
}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    postgres_server: Postgres, redis_server: Redis, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Monitored]:
    folder = tmp_path_factory.mktemp("monitored")
    async with monitored(postgres_server, redis_server, template=migrated, folder=folder) as everything:
        await everything.hurt()
        yield everything


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(running: Monitored) -> AsyncIterator[psycopg.Connection[dict[str, object]]]:
    """PostgreSQL as Grafana's data source sees it."""
    with psycopg.connect(running.database, autocommit=True) as owner:
        owner.execute(ROLE.encode())
        try:
            owner.execute(GRANTS)
            with psycopg.connect(running.database, user="grafana", autocommit=True, row_factory=dict_row) as connection:
                yield connection
        finally:
            owner.execute("DROP OWNED BY grafana; DROP ROLE grafana")


async def asked(running: Monitored, expression: str) -> list[Series]:
    """What Grafana would draw of an expression."""
    over = Range(running.since, time(), window="5s")
    text = substituted(expression, over)
    return await running.prometheus.range(text, start=over.start, end=over.end, step=STEP)


async def lacks(running: Monitored, panel: Panel) -> str:
    """What a panel lacks; empty where all of its queries are filled, and one of them with more than zeros."""
    largest = 0.0
    for query in panel.promql:
        values = [
            value
            for series in await asked(running, query["expr"])
            for _, value in series.points
            if math.isfinite(value)
        ]
        if not values:
            return f"{panel.board} / {panel.title}: nothing for {query['expr']}"
        largest = max(largest, *map(abs, values))
    only_zeros = panel.promql and largest == 0 and panel.title not in ZERO
    return f"{panel.board} / {panel.title}: only zeros" if only_zeros else ""


async def test_every_panel_of_prometheus_shows_something(running: Monitored) -> None:
    """No expression is an error, none is empty, and none is zero that traffic or an outage must have changed."""
    missing: list[str] = []

    async def none_lacks() -> bool:
        missing[:] = [lack for panel in ALL if (lack := await lacks(running, panel))]
        return not missing

    try:
        await until(none_lacks, 60)
    except TimeoutError:
        pytest.fail("\n".join(missing))


async def test_every_panel_of_postgresql_shows_something(
    running: Monitored, reader: psycopg.Connection[dict[str, object]]
) -> None:
    """No statement is an error for the role that the docs describe, and none has no rows."""
    empty: list[str] = []

    async def none_is_empty() -> bool:
        over = Range(running.since - 3600, time() + 60)
        empty[:] = [
            panel.title
            for panel in ALL
            for query in panel.sql
            if not reader.execute(substituted_sql(query["rawSql"], over).encode()).fetchall()
        ]
        return not empty

    try:
        await until(none_is_empty, 60)
    except TimeoutError:
        pytest.fail(f"no rows: {empty}")


async def test_one_organization_can_be_chosen(
    running: Monitored, reader: psycopg.Connection[dict[str, object]]
) -> None:
    """The panels of the chosen organizations show theirs and no other's."""
    (variable,) = [each for each in BOARDS["customers"]["templating"]["list"] if each["name"] == "organization"]
    choices = {row["__text"]: str(row["__value"]) for row in reader.execute(variable["query"].encode()).fetchall()}
    chosen = {choices["Initech"], choices["Hooli"]}
    over = Range(running.since - 3600, time() + 60, organization="|".join(chosen))
    (why,) = [query["rawSql"] for panel in ALL if panel.title == "Why" for query in panel.sql]
    await until(lambda: _done(len(reader.execute(substituted_sql(why, over).encode()).fetchall()) >= 2), 60)
    rows = reader.execute(substituted_sql(why, over).encode()).fetchall()
    assert {row["organization"] for row in rows} == {"Initech", "Hooli"}
    assert {row["decision"] for row in rows} == {"daily_quota_exceeded", "rate_limited"}
    (share,) = [query["expr"] for panel in ALL if panel.title == "Quotas used" for query in panel.promql]
    series = await running.prometheus.until(substituted(share, over))
    assert {each.labels["organization"] for each in series} == {choices["Initech"]}


async def _done(holds: bool) -> bool:
    return holds


async def test_the_reader_may_read_that_and_nothing_else(
    running: Monitored, reader: psycopg.Connection[dict[str, object]]
) -> None:
    """The role reads no hash of a key and no audit log, and changes nothing."""
    for statement in (
        "SELECT hash FROM api_keys",
        "SELECT * FROM audit_log",
        "SELECT * FROM retired_hashes",
    ):
        with pytest.raises(pg.InsufficientPrivilege):
            reader.execute(statement.encode())
    reader.execute("SET default_transaction_read_only = off")
    for statement in ("DELETE FROM rejections", "UPDATE api_keys SET revoked_at = now()"):
        with pytest.raises(pg.InsufficientPrivilege):
            reader.execute(statement.encode())


async def test_every_annotation_marks_what_happened(running: Monitored) -> None:
    """A store that went away, the first sight of a version, and a worker that was started again."""
    for name, board in BOARDS.items():
        for mark in board["annotations"]["list"]:
            assert await asked(running, mark["expr"]), f"{name}: {mark['name']}"


async def test_the_dots_on_latency_are_traces(running: Monitored) -> None:
    """Prometheus has exemplars of them, with the label by which the data source opens a trace."""
    (source,) = [each for each in SOURCES if each["uid"] == "prometheus"]
    (target,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert target["datasourceUid"] in {each["uid"] for each in SOURCES}
    expressions = [substituted(query["expr"]) for panel in ALL for query in panel.promql if query.get("exemplar")]
    assert len(expressions) == 3
    for expression in expressions:
        now = time()
        found = await running.prometheus.ask("query_exemplars", query=expression, start=running.since, end=now)
        labels = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
        assert labels
        assert all(re.fullmatch("[0-9a-f]{32}", each[target["name"]]) for each in labels)


async def test_every_choice_of_a_variable_is_there(running: Monitored) -> None:
    """Each variable from Prometheus offers something."""
    queries = {
        variable["query"]
        for board in BOARDS.values()
        for variable in board["templating"]["list"]
        if variable["type"] == "query" and variable["datasource"]["uid"] == "prometheus"
    }
    assert len(queries) == 2
    for query in queries:
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()  # type: ignore[union-attr]
        parameters = {"match[]": substituted(metric)}
        assert await running.prometheus.ask(f"label/{label}/values", **parameters), query
