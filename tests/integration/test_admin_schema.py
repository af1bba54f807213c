"""The admin API keeps what its OpenAPI document promises: schemathesis asks every operation, rightly and wrongly."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from extauthz.admin import openapi
from extauthz.admin.api import OPERATIONS, AdminApi
from extauthz.app.explain import explaining
from extauthz.backends.postgres.pool import open_pool
from extauthz.backends.redis.topology import connect
from extauthz.config import load
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis
from tests.generated import examples, is_deep
from tests.servers.admin_api import PEPPER_SETTING, TOKENS, Caller, services, serving, value
from tests.servers.fixtures import new_database

KEY = "11111111-1111-4111-8111-111111111111"
BEARER = {"Authorization": f"Bearer {TOKENS['ops'].decode()}"}
# What no schema can say is refused all the same: a time in the past, half a pair whose other half is stored (422), a
# version of yesterday (412, or 304 where it is asked for what is new), a cursor that was never given out (400).
BEYOND_SCHEMA = ["2xx", "304", "404", "409", "400", "412", "422"]

PRIVATE_PLANES = "\U000e0000-\U0010ffff"

THINGS = f"""
DELETE FROM organizations; DELETE FROM plans; TRUNCATE audit_log, retired_hashes;
INSERT INTO plans (name, rate, burst) VALUES ('default', '10/s', 20), ('gold', '5/s', 5);
INSERT INTO organizations (name, plan_id) SELECT 'acme', id FROM plans WHERE name = 'default';
INSERT INTO organizations (name, plan_id) SELECT 'empty', id FROM plans WHERE name = 'default';
INSERT INTO api_keys (id, organization_id, name, hash, pepper_id, handle, permissions)
SELECT ids.id, o.id, 'old', sha256(ids.id::text::bytea), 'p1', 'xa_live_…abcd', '{{"*": ["read"]}}'
FROM organizations o, (VALUES ('{KEY}'::uuid), (gen_random_uuid())) AS ids (id) WHERE o.name = 'acme';
"""


def document(**more: Any) -> Any:
    """The document as schemathesis reads it.

    The patterns of texts lose their private planes, because hypothesis lists every character that a class leaves out:
    a second for each pattern. A text with such a character is refused with 400 or 422, as BEYOND_SCHEMA allows.
    Requests at the bounds of every field and those of its examples are built during collection, and belong to
    `make test-deep`.
    """
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "phases": {phase: {"enabled": is_deep()} for phase in ("coverage", "examples")},
            "checks": {"positive_data_acceptance": {"expected-statuses": BEYOND_SCHEMA}},
            **more,
        }
    )
    text = json.dumps(openapi.document(OPERATIONS), ensure_ascii=False).replace(PRIVATE_PLANES, "")
    whole = schemathesis.openapi.from_dict(json.loads(text), config=config)
    return whole.exclude(operation_id="watch_decisions")  # which has no end; tests/integration/test_tail.py asks it


anything = document()
real_things = document(
    parameters={
        "path.plan": "gold",
        "path.organization": "empty",
        "path.api_key": KEY,
        "query.organization_id": "acme",
    },
    generation={"mode": "positive"},
)
few = settings(examples(2, 30), suppress_health_check=list(HealthCheck))
enough = settings(examples(8, 30), suppress_health_check=list(HealthCheck))  # that one of them succeeds
pytestmark = pytest.mark.fuzz
pytest_plugins = ["schemathesis.pytest.plugin"]


async def _at_once() -> None:
    """Schemathesis tries wrong tokens by the hundred; how they are slowed down is tested elsewhere."""


@asynccontextmanager
async def _running(dsn: str, redis_url: str) -> AsyncIterator[int]:
    async with (
        open_pool(dsn, size=4, wait=5, statement_timeout=5) as pool,
        connect(redis_url, patience=5) as redis,
        explaining(
            load({"DATABASE_URL": dsn, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": PEPPER_SETTING}, None)
        ) as explain,
        serving(AdminApi(services(pool, redis), TOKENS, pause=_at_once, explain=explain)) as port,
    ):
        yield port


@pytest.fixture(scope="module")
def api(postgres_server: Postgres, redis_server: Redis, migrated: str) -> Iterator[tuple[str, str]]:
    """The API in a thread of its own, since schemathesis waits for each answer; its address and its database's."""
    ports: list[int] = []
    ready = threading.Event()
    loop, done = asyncio.new_event_loop(), asyncio.Event()

    async def serve(dsn: str) -> None:
        async with _running(dsn, redis_server.redis_url) as port:
            ports.append(port)
            ready.set()
            await done.wait()

    with new_database(postgres_server, template=migrated) as dsn:
        thread = threading.Thread(target=lambda: loop.run_until_complete(serve(dsn)))
        thread.start()
        try:
            assert ready.wait(10)
            yield f"http://127.0.0.1:{ports[0]}", dsn
        finally:
            loop.call_soon_threadsafe(done.set)
            thread.join()
            loop.close()


@pytest.fixture
def address(api: tuple[str, str]) -> str:
    """The API's address, with the same things behind it for every operation."""
    with psycopg.connect(api[1], autocommit=True) as connection:
        connection.execute(THINGS)
    return api[0]


@pytest.fixture
def successes() -> Iterator[list[int]]:
    """Statuses of answers; a test whose every request was refused has shown little, and fails."""
    seen: list[int] = []
    yield seen
    assert [status for status in seen if status < 300], seen


@anything.parametrize()  # type: ignore[untyped-decorator]
@few
def test_any_request_gets_a_declared_answer(case: schemathesis.Case[Any], address: str) -> None:
    """Any request, valid or not, gets a declared status in the declared form, and never an internal error."""
    case.call_and_validate(base_url=address, headers=BEARER)


@real_things.parametrize()  # type: ignore[untyped-decorator]
@enough
def test_every_operation_succeeds_on_existing_items(
    case: schemathesis.Case[Any], address: str, successes: list[int]
) -> None:
    """On items that exist every operation succeeds, and its answer has the declared form."""
    aim(case)
    successes.append(case.call_and_validate(base_url=address, headers=BEARER).status_code)


def aim(case: schemathesis.Case[Any]) -> None:
    """Takes out of a request what only chance would make right, and names an organization that is there."""
    case.headers.pop("If-Match", None)
    case.headers.pop("If-None-Match", None)
    if case.query:
        case.query.pop("cursor", None)
        for name in ("day", "month", "from", "to", "decision"):
            case.query.pop(name, None)
    body: Any = case.body
    if isinstance(body, dict):
        body.pop("expires_at", None)
        body.pop("until", None)
        if "timezone" in body:
            body["timezone"] = "Europe/Berlin"
        if "permissions" in body:
            body["permissions"] = {"*": ["read"]}
        if "organization_id" in body:
            body["organization_id"] = "acme"
        if "url" in body:
            body.update({"url": "/api/v1/customers/7", "key": None, "key_id": KEY, "dialect": "nginx", "at": "now"})


async def test_the_document_is_served(api: tuple[str, str]) -> None:
    """What is served under /v1/openapi.json is what the tests above read, and asks for the token like everything."""
    served = await Caller(int(api[0].rpartition(":")[2]))("GET", "/v1/openapi.json")
    assert value(served) == openapi.document(OPERATIONS)
