"""The commands of docs/howto/show-usage.md for an operator, run as the page shows them."""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from redis.asyncio import Redis

from extauthz.admin.api import AdminApi
from extauthz.backends.postgres.pool import Pool
from tests.integration.test_cli import PEPPER
from tests.servers.admin_api import TOKENS, Caller, services, serving
from tests.servers.management_client import ManagementClient
from tests.servers.shell import Here

PAGE = (Path(__file__).parents[2] / "docs/howto/show-usage.md").read_text("utf-8")
INITECH = "5da3a020-eebe-4f08-bcf1-78e264020f73"


def examples(program: str) -> Iterator[tuple[str, str]]:
    """The commands of a program, without its name, and what the page shows of each."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        command, _, shown = block.partition("\n")
        if command.startswith(f"$ {program} "):
            yield command.removeprefix(f"$ {program} "), shown


@pytest.fixture
async def story(operator: ManagementClient) -> None:
    """What Initech used in September and October, with two keys."""
    await operator.sql(
        "INSERT INTO organizations (id, name, plan_id) SELECT %s, 'initech', id FROM plans WHERE name = 'default'",
        INITECH,
    )
    web, batch = [(await operator.new_key("initech", name=name))[0].id for name in ("web", "batch")]
    for day, key_id, allowed, cost, rate_limited, over_quota in (
        (date(2026, 9, 3), web, 1804, 1804, 0, 0),
        (date(2026, 9, 30), batch, 2500, 5000, 40, 0),
        (date(2026, 10, 28), web, 2210, 2210, 0, 0),
        (date(2026, 10, 30), web, 912, 912, 3, 0),
        (date(2026, 10, 30), batch, 3000, 9088, 41, 250),
    ):
        await operator.sql(
            "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed, cost, rate_limited, over_quota)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            *(INITECH, key_id, day, allowed, cost, rate_limited, over_quota),
        )


@pytest.mark.usefixtures("story")
async def test_the_commands_of_the_page(database: str, redis_url: str, tmp_path: Path) -> None:
    """Each prints what the page shows, to the letter, and no line is above 80 columns."""
    here = Here(tmp_path, {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"})
    commands = list(examples("extauthz"))
    assert len(commands) == 4
    for command, shown in commands:
        arguments, _, query = command.partition(" | jq -r ")
        done = await asyncio.to_thread(here.run, *shlex.split(arguments))
        assert (done.returncode, done.stderr) == (0, "")
        if query:
            rows = json.loads(done.stdout)["items"]
            assert shown == "".join(f'"{row["from"]}",{row["allowed"]},{row["cost"]}\n' for row in rows)
        else:
            assert done.stdout == shown
        assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.usefixtures("story")
async def test_the_call_of_the_page(pool: Pool, redis: Redis) -> None:
    """The same over HTTP."""
    ((call, shown),) = examples("admin")
    url = re.match(r'"\$API(/[^"]+)"', call)
    assert url is not None
    async with serving(AdminApi(services(pool, redis), TOKENS)) as port:
        items = json.loads((await Caller(port)("GET", f"/v1{url[1]}")).body)["items"]
    told = [json.loads(line) for line in shown.splitlines()]
    assert sorted(({name: item[name] for name in told[0]} for item in items), key=str) == sorted(told, key=str)
