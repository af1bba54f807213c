"""The commands of docs/howto/why-was-it-refused.md, run as the page shows them, on the data of its example."""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from extauthz.admin.api import AdminApi
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.rejections import PostgresRejections
from extauthz.core.rejections import Group, Rejected, Sample
from tests.integration.test_cli import PEPPER
from tests.servers.admin_api import TOKENS, Caller, services, serving
from tests.servers.management_client import ManagementClient
from tests.servers.shell import Here

PAGE = (Path(__file__).parents[2] / "docs/howto/why-was-it-refused.md").read_text("utf-8")
WRITTEN, YESTERDAY = "2026-11-29", datetime.now(UTC).date() - timedelta(days=1)
ROUTE = "/api/v1/{resource}/**"


def examples(program: str) -> Iterator[tuple[str, str]]:
    """The commands of a program, without its name, and what the page shows of each, as if written today."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        command, _, shown = block.replace(WRITTEN, str(YESTERDAY)).partition("\n")
        if command.startswith(f"$ {program} "):
            yield command.removeprefix(f"$ {program} "), shown


@pytest.fixture
async def story(operator: ManagementClient, pool: Pool) -> None:
    """The requests of Initech yesterday at ten."""
    batch, _ = await operator.new_key("initech", name="batch")
    old, _ = await operator.new_key("initech", name="old-batch")
    initech = batch.organization_id
    at = datetime.combine(YESTERDAY, datetime.min.time(), UTC).timestamp() + 10 * 3600
    requests = [("90d7a1c3be2846f0", 358), ("1c6f0e55a90b47d2", 362), ("4e0c8d2ab1f34d35", 372)]
    samples = [Sample(at + second, "POST", "/api/v1/invoices", id_) for id_, second in requests]
    rows = [
        Rejected(Group(int(at), initech, batch.id, "", ROUTE, "rate_limited", ""), 41, []),
        Rejected(Group(int(at), initech, batch.id, "", ROUTE, "permission_denied", ""), 3, samples),
        Rejected(Group(int(at), initech, old.id, "", ROUTE, "invalid_credentials", "revoked"), 12, []),
        Rejected(Group(int(at), "", "", "192.0.2.7", ROUTE, "invalid_credentials", "wrong_check_characters"), 5, []),
    ]
    for row, later in zip(rows, (600, 300, 0, 0), strict=True):
        moved = row._replace(group=row.group._replace(since=int(at) + later))
        await PostgresRejections(pool).add(uuid4(), [moved])


@pytest.mark.usefixtures("story")
async def test_the_commands_of_the_page(database: str, redis_url: str, tmp_path: Path) -> None:
    """Each prints what the page shows, to the letter."""
    environ = {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"}
    here = Here(tmp_path, environ)
    commands = list(examples("extauthz rejections"))
    assert len(commands) == 3  # test_explain has the other one
    for command, shown in commands:
        # Yesterday at ten can be longer ago than the 24 hours of the page.
        arguments = shlex.split(command.replace("--since 24h", "--since 48h"))
        done = await asyncio.to_thread(here.run, "rejections", *arguments)
        assert done.stdout == shown


@pytest.mark.usefixtures("story")
async def test_the_call_of_the_page(pool: Pool, redis: Redis) -> None:
    """The same over HTTP."""
    ((call, shown),) = examples("admin")
    url = re.match(r'"\$API(/[^"]+)"', call)
    assert url is not None
    async with serving(AdminApi(services(pool, redis), TOKENS)) as port:
        items = json.loads((await Caller(port)("GET", f"/v1{url[1]}")).body)["items"]
    assert [{name: item[name] for name in ("from", "count", "route")} for item in items] == [json.loads(shown)]


@pytest.mark.usefixtures("story")
async def test_the_query_of_the_page(operator: ManagementClient) -> None:
    """The same in SQL."""
    ((command, shown),) = examples("psql")
    rows = await operator.rows(shlex.split(command)[1])
    told = re.findall(r"^ (\w+) +\| +(\d+)$", shown, re.MULTILINE)
    assert [(row["decision"], str(row["sum"])) for row in rows] == told
