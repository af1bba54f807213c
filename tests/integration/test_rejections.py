"""Why a request was refused: from a check to the command and the API that report it."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest

from extauthz.backends.postgres import rejections as postgres_rejections
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.rejections import PostgresRejections
from extauthz.core.rejections import EVERY_REJECTION, SAMPLES, Group, Rejected, Sample
from extauthz.service.usage import rejections
from tests.integration.test_cli import PEPPER
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.raw_http import ask
from tests.servers.serving import PATIENT, question, serving
from tests.servers.shell import Here
from tests.servers.waiting import until

REFUSED = Group(1_800_000_000, str(uuid4()), str(uuid4()), "", "/api/**", "permission_denied", "")


@pytest.fixture
def store(pool: Pool) -> PostgresRejections:
    return PostgresRejections(pool)


def sample(number: int) -> Sample:
    return Sample(1_800_000_000 + number, "GET", f"/api/\udcff{number}", f"request {number}")


async def test_a_batch_counts_once(store: PostgresRejections) -> None:
    """A batch that is sent again adds nothing; another adds to the same row, which keeps the latest samples."""
    first, second = uuid4(), uuid4()
    for id_ in (first, first, second):
        numbers = range(15) if id_ == first else range(15, 30)
        await store.add(id_, [Rejected(REFUSED, 15, [sample(number) for number in numbers])])
    (row,) = (await store.page(REFUSED.tenant_id, EVERY_REJECTION, limit=10, cursor=None)).items
    assert row.count == 30
    assert [each["request_id"] for each in row.samples] == [f"request {n}" for n in range(29, 29 - SAMPLES, -1)]
    assert row.samples[0]["path"] == "/api/%FF29"


async def test_old_rejections_are_deleted(store: PostgresRejections, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rejections older than so many days are deleted, batch by batch; the rest stays."""
    monkeypatch.setattr(postgres_rejections, "ROWS_PER_DELETE_MAX", 2)
    now = datetime.now(UTC)
    for days in (1, 40, 41, 42):
        group = REFUSED._replace(since=int((now - timedelta(days=days)).timestamp()))
        await store.add(uuid4(), [Rejected(group, 1, [])])
    assert [await store.delete_old(30) for _ in range(2)] == [True, False]
    assert len((await store.page(REFUSED.tenant_id, EVERY_REJECTION, limit=10, cursor=None)).items) == 1


@pytest.mark.parametrize("group", [REFUSED, REFUSED._replace(tenant_id="", key_id="", address="192.0.2.7")])
async def test_more_than_one_page(store: PostgresRejections, group: Group) -> None:
    """Page after page, each row is there once, the newest first."""
    kinds = [group._replace(since=group.since + 300 * (n // 2), route=f"/{n}") for n in range(5)]
    await store.add(uuid4(), [Rejected(kind, 1, []) for kind in kinds])
    routes: list[str | None] = []
    cursor: str | None = None
    while len(routes) < len(kinds):
        page = await store.page(group.tenant_id or None, EVERY_REJECTION, limit=2, cursor=cursor)
        routes += [row.route for row in page.items]
        cursor = page.next
        assert page.items
    assert cursor is None
    assert [{*routes[:1]}, {*routes[1:3]}, {*routes[3:]}] == [{"/4"}, {"/2", "/3"}, {"/0", "/1"}]


async def test_why_was_it_refused(
    database: str,
    redis_url: str,
    operator: ManagementClient,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Permission, revoked, suspended and rate: each has key, route and request id; no path has a key in it."""
    monkeypatch.setattr(rejections, "WRITE_INTERVAL_SECONDS", 0.05)
    await operator.tenants.create_plan("small", NO_LIMITS | {"rate": "1/d", "burst": 1})
    await operator.tenants.create_organization("initech", "small")
    details, key = await operator.new_key("initech")
    _, revoked = await operator.new_key("initech")
    await operator.sql("UPDATE api_keys SET revoked_at = now() WHERE id::text <> %s", details.id)

    async def rows(decision: str) -> list[dict[str, object]]:
        query = "SELECT route, count, reason, samples FROM rejections WHERE decision = %s"
        return [dict(row) for row in await operator.rows(query, decision)]

    async def written(decision: str) -> bool:
        return bool(await rows(decision))

    async with serving(database, redis_url, **PATIENT) as service:

        async def send(key: str, path: str = "/") -> None:
            more = b"X-Request-Id: seen in the log\r\n"
            await ask(service.ports["envoy"], question("envoy", path, key=key, more=more))

        for _ in range(3):
            await send(key, f"/orders/{key}?{key}")
        await send(revoked)
        await until(partial(written, "rate_limited"))
        await until(partial(written, "invalid_credentials"))
    (limited,), (ended,) = await rows("rate_limited"), await rows("invalid_credentials")
    assert (limited["count"], limited["route"], ended["reason"]) == (2, "/**", "revoked")
    assert key not in str(limited)
    assert "seen in the log" in str(limited["samples"])
    environ = {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"}
    here = Here(tmp_path_factory.mktemp("here"), environ)
    told = await asyncio.to_thread(here.json, "rejections", "initech", "--decision", "rate_limited", "--since", "1h")
    assert [(row["decision"], row["count"], row["api_key_id"]) for row in told] == [("rate_limited", 2, details.id)]
    shown = (await asyncio.to_thread(here.run, "rejections", "initech")).stdout
    assert "invalid_credentials (revoked)" in shown
