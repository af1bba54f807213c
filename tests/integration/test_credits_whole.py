"""Credits in whole services: given once, whatever becomes of Redis, of workers, and of the other limits."""

import json
from pathlib import Path

import pytest

from extauthz.backends.postgres.credits import PostgresCredits
from extauthz.core.changes import EntityRef
from extauthz.core.management import KeyTerms
from extauthz.demo.postgres import Postgres
from extauthz.service.usage import flush
from tests.integration.test_leases import CONNECTIONS, LEASES, PLENTY, customer
from tests.integration.test_usage_whole import decisions
from tests.servers.fixtures import stopped
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.process import listening, settings
from tests.servers.raw_http import ask
from tests.servers.serving import PATIENT, Serving, question, serving

ACME = EntityRef("organization", "acme")
EXHAUSTED = "credits_exhausted"
Keys = tuple[tuple[str, str], tuple[str, str]]
DEAR = (
    '[[routes]]\npath = "/**"\nresource = "api"\n[[routes]]\npath = "/dear/**"\nresource = "api"\ncost = 3\n'
    '[[routes]]\npath = "/rehearsed/**"\nresource = "api"\nlimits = "shadow"\n'
)


@pytest.fixture
async def keys(operator: ManagementClient) -> Keys:
    """Two keys of an organization without any limit: id and key."""
    await operator.tenants.create_plan("unlimited", NO_LIMITS)
    await operator.tenants.create_organization("acme", "unlimited")
    (one, secret_one), (two, secret_two) = [await operator.keys.create("acme", KeyTerms(name)) for name in ("1", "2")]
    return (one.id, secret_one), (two.id, secret_two)


@pytest.fixture
def routes(tmp_path: Path) -> dict[str, str]:
    """Settings with a route of cost 3, and one whose limits are in shadow."""
    file = tmp_path / "extauthz.toml"
    file.write_text(DEAR)
    return PATIENT | {"EXTAUTHZ_CONFIG": str(file)}


async def usage_of(service: Serving, key: str) -> dict[str, tuple[object, ...]]:
    """What a caller gets to see of its limits, by name."""
    answer = await ask(service.ports["usage"], question("envoy", "/usage", key=key))
    rows = json.loads(answer.body)["limits"]
    return {row["name"]: tuple(row[name] for name in ("limit", "used", "remaining", "window", "reset")) for row in rows}


async def used(operator: ManagementClient, holder: EntityRef = ACME) -> int:
    """What PostgreSQL has of the use of credits."""
    store = PostgresCredits(operator.pool, actor="test")
    return (await (store.of_key if holder.kind == "api_key" else store.of_organization)(holder.id)).used


async def test_credits_are_given_once_although_redis_is_emptied(
    database: str,
    redis_url: str,
    operator: ManagementClient,
    keys: Keys,
    routes: dict[str, str],
) -> None:
    """Of an organization and of its key together: what passes before and after is the grant, and a further grant
    is added to it.
    """
    (id_one, one), (_, two) = keys
    await operator.credits.set(ACME, 12)
    await operator.credits.set(EntityRef("api_key", id_one), 8)
    async with serving(database, redis_url, **routes) as service:
        assert await decisions(service, one, 2, "/dear/x") == ["allow"] * 2
        refused = await ask(service.ports["envoy"], question("envoy", "/dear/x", key=one))
        assert (refused.status, refused.decision) == (429, EXHAUSTED)
        assert json.loads(refused.body)["violated-policies"] == ["key-credits"]
        assert await decisions(service, one, 1) == ["allow"]
        assert await usage_of(service, one) | {"daily": (), "monthly": ()} == {
            "daily": (),
            "monthly": (),
            "credits": (12, 7, 5, None, None),
            "key-credits": (8, 7, 1, None, None),
        }
    assert (await used(operator), await used(operator, EntityRef("api_key", id_one))) == (7, 7)
    await operator.redis.flushall()
    async with serving(database, redis_url, **routes) as service:
        assert await decisions(service, one, 2) == ["allow", EXHAUSTED]
        assert await decisions(service, two, 2, "/dear/x") == ["allow", EXHAUSTED]
        assert await decisions(service, two, 2) == ["allow", EXHAUSTED]
        assert (await usage_of(service, two))["credits"] == (12, 12, 0, None, None)
        await operator.credits.add(ACME, 1)
        while (await decisions(service, two, 1)) == [EXHAUSTED]:  # until the change has reached the service
            pass
        assert await decisions(service, two, 1) == [EXHAUSTED]
    assert await used(operator) == 13


async def test_what_takes_no_credits(
    database: str,
    redis_url: str,
    operator: ManagementClient,
    keys: Keys,
    routes: dict[str, str],
) -> None:
    """A request that is charged already, one that shadow lets pass although it does not fit, and of the suspended."""
    (_, one), _ = keys
    await operator.credits.set(ACME, 2)
    async with serving(database, redis_url, **routes, EXTAUTHZ_CHARGE_ONCE="true") as service:
        same = question("envoy", "/x", key=one, more=b"x-request-id: 1\r\n")
        assert [(await ask(service.ports["envoy"], same)).decision for _ in range(3)] == ["allow"] * 3
        assert (await usage_of(service, one))["credits"][1] == 1
        assert await decisions(service, one, 1, "/dear/x") == [EXHAUSTED]
        assert await decisions(service, one, 3, "/rehearsed/x") == ["allow"] * 3  # one fits
        assert (await usage_of(service, one))["credits"][1] == 2
        await operator.tenants.update_organization("acme", {"status": "suspended"})
        while (await decisions(service, one, 1)) == [EXHAUSTED]:
            pass
        assert await decisions(service, one, 1) == ["organization_suspended"]
    assert await used(operator) == 2


async def test_an_unknown_count_is_no_credits(
    database: str,
    redis_url: str,
    operator: ManagementClient,
    postgres_server: Postgres,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Redis is empty and PostgreSQL away: 503, also where limits that cannot be checked let requests pass; what was
    left passes when it is back.
    """
    (_, one), _ = keys
    for name in ("REFUSALS_INTERVAL_SECONDS", "SAVE_INTERVAL_SECONDS"):
        monkeypatch.setattr(flush, name, 0.02)
    await operator.credits.set(ACME, 5)
    async with serving(database, redis_url, **PATIENT, RATE_LIMIT_ON_REDIS_DOWN="open") as service:
        assert await decisions(service, one, 4) == ["allow"] * 4
        while await used(operator) < 4:
            pass
        await operator.redis.flushall()
        with stopped(postgres_server):
            away = await ask(service.ports["envoy"], question("envoy", "/x", key=one))
            assert (away.status, away.decision, away["retry-after"]) == (503, "limits_unavailable", "1")
        found = await decisions(service, one, 1)
        while found[-1] != EXHAUSTED:
            found += await decisions(service, one, 1)
    assert found.count("allow") == 1
    assert set(found) == {"allow", "limits_unavailable", EXHAUSTED}


async def test_workers_that_race_for_the_last_credits(
    operator: ManagementClient, database: str, redis_url: str
) -> None:
    """Exactly as many requests pass as there are credits, and none of them is leased."""
    granted = 300
    acme = await customer(operator, PLENTY)
    await operator.credits.set(ACME, granted)
    async with listening(settings(database, redis_url, **LEASES), "--workers", "2") as service:
        await acme.ask_at_once(service, 2 * granted // CONNECTIONS)
        metrics = await service.metrics()
        assert await service.end() == 0
    assert acme.answers == {"allow": granted, EXHAUSTED: 2 * granted // CONNECTIONS * CONNECTIONS - granted}
    assert not metrics.get('extauthz_lease_units_total{what="granted"}')
    assert await used(operator) == granted
