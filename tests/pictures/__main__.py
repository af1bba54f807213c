"""Runs extauthz under traffic for a while, with an outage of each store, and draws every dashboard into `docs/`."""

import asyncio
from pathlib import Path
from time import time

import psycopg
from psycopg.rows import DictRow, dict_row

from extauthz.backends.postgres import migrate
from extauthz.demo.folders import temporary_folder
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis
from tests.pictures.answers import Answer, Line, lines_of_rows, named
from tests.pictures.draw import picture
from tests.servers.fixtures import new_database
from tests.servers.grafana import BOARDS, Panel, Range, panels, substituted, substituted_sql
from tests.servers.monitored import Monitored, monitored

FOLDER = Path(__file__).parents[2] / "docs/howto/dashboards"
SECONDS, POINTS = 120, 60
CALM = SECONDS / 2  # before the outages


async def draw(postgres: Postgres, redis: Redis, *, template: str, folder: Path) -> None:
    """Draws all dashboards."""
    async with monitored(postgres, redis, template=template, folder=folder) as running:
        await asyncio.sleep(CALM)
        await running.hurt()
        await asyncio.sleep(max(running.since + SECONDS - time(), 0))
        for name, board in BOARDS.items():
            answers = {panel.json["id"]: await answered(running, panel) for panel in panels(name)}
            (FOLDER / f"{name}.svg").write_text(picture(board, answers), "utf-8")


def main() -> None:
    """Starts what is drawn."""
    FOLDER.mkdir(exist_ok=True)
    with (
        temporary_folder("extauthz pictures ") as folder,
        Postgres(folder / "pg") as postgres,
        Redis(folder / "redis") as redis,
        new_database(postgres) as dsn,
    ):
        asyncio.run(migrate.upgrade(dsn))
        template = dsn.rpartition("/")[2].replace("%20", " ")
        asyncio.run(draw(postgres, redis, template=template, folder=folder))


async def answered(running: Monitored, panel: Panel) -> Answer:
    """What a panel shows of the whole time."""
    now = time()
    over = Range(running.since, now, window="10s")
    answer = Answer()
    for query in panel.promql:
        expression = substituted(query["expr"], over)
        if query.get("instant"):
            answer.rows.extend(dict(series.labels) for series in await running.prometheus.instant(expression))
            continue
        step = (over.end - over.start) / POINTS
        for series in await running.prometheus.range(expression, start=over.start, end=over.end, step=step):
            answer.lines.append(Line(named(query, series), series.points))
    for query in panel.sql:
        rows = read(running.database, substituted_sql(query["rawSql"], Range(running.since - 3600, now)))
        if query["format"] == "time_series":
            answer.lines.extend(lines_of_rows(rows))
        else:
            answer.rows.extend(rows)
    return answer


def read(database: str, statement: str) -> list[DictRow]:
    """The rows of a statement."""
    with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute(statement.encode()).fetchall()


if __name__ == "__main__":
    main()
