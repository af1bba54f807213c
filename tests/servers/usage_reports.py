"""An organization whose usage tests write, and `GET /v1/usage`, which reports it."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.admin.api import AdminApi
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.redis import keyspace
from tests.servers.admin_api import TOKENS, Caller, services, serving, value
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.raw_http import Answer

ACME = "aaaaaaaa-0000-4000-8000-000000000000"
ONE, TWO, THREE = (f"{number}{number}{number}{number}0000-0000-4000-8000-000000000000" for number in (1, 2, 3))
HASH = keyspace.tenant_limits(ACME)


class Day(NamedTuple):
    """A day of UTC, and the names of the counters of its day and month."""

    when: date

    @property
    def field(self) -> str:
        return f"d:{self.when:%Y%m%d}"

    @property
    def month(self) -> str:
        return f"m:{self.when:%Y%m}01"

    @property
    def dates(self) -> dict[str, str]:
        """How a row of the day says so."""
        return dict.fromkeys(("from", "to"), self.when.isoformat())

    def before(self, days: int = 1) -> date:
        return self.when - timedelta(days=days)


@pytest.fixture
def today() -> Day:
    """The day on which the test runs; see `within_one_day`."""
    return Day(datetime.now(UTC).date())


@pytest.fixture
async def ops(pool: Pool, redis: RedisClient) -> AsyncIterator[Caller]:
    """A client with the token `ops`."""
    async with serving(AdminApi(services(pool, redis), TOKENS)) as port:
        yield Caller(port)


@pytest.fixture
async def acme(operator: ManagementClient) -> ManagementClient:
    """The organization acme with a quota of 1000 a day and 5000 a month."""
    await operator.tenants.create_plan("gold", NO_LIMITS | {"daily_quota": 1000, "monthly_quota": 5000})
    await new_organization(operator, ACME, "acme")
    return operator


async def new_organization(
    operator: ManagementClient, id_: str, name: str, *, timezone: str = "UTC", anchor: int = 1
) -> None:
    """An organization that counts so since it was made: a change would hold from the next day or month on."""
    await operator.sql(
        "INSERT INTO organizations (id, name, plan_id, timezone, anchor)"
        " SELECT %s, %s, id, %s, %s FROM plans WHERE name = 'gold'",
        *(id_, name, timezone, anchor),
    )


async def save(operator: ManagementClient, key_id: str, day: date | None = None, **counts: int) -> None:
    """A row as the flusher and the counters of refusals leave it."""
    names = ("allowed", "cost", "rate_limited", "over_quota", "revision")
    await operator.sql(
        f"INSERT INTO usage_daily (organization_id, api_key_id, day, {', '.join(names)})"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        *(ACME, key_id, day or datetime.now(UTC).date(), *(counts.get(name, 0) for name in names)),
    )


async def count(operator: ManagementClient, fields: Mapping[str, object]) -> None:
    """The organization's hash as checks leave it."""
    await operator.redis.hset(HASH, mapping={name: str(value) for name, value in fields.items()})


async def used(ops: Caller, **query: object) -> Any:
    answer = await ask(ops, **{"organization_id": "acme", **query})
    assert answer.status == 200, answer.body
    return value(answer)


async def ask(ops: Caller, **query: object) -> Answer:
    return await ops("GET", "/v1/usage?" + "&".join(f"{name}={text}" for name, text in query.items()))
