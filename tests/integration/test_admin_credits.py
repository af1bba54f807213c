"""`/v1/organizations/ORG/credits` and `/v1/api-keys/ID/credits`, on real PostgreSQL and Redis."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.admin.api import AdminApi
from extauthz.backends.postgres.pool import Pool
from tests.servers.admin_api import TOKENS, Caller, code, made, new_key, services, serving, value


@pytest.fixture
async def ops(pool: Pool, redis: RedisClient) -> AsyncIterator[Caller]:
    """The bearer of the token `ops`."""
    async with serving(AdminApi(services(pool, redis), TOKENS)) as port:
        yield Caller(port)


async def test_credits_by_the_api(ops: Caller) -> None:
    """They are shown, topped up, set and removed, of an organization and of a key, with a reason in the audit log."""
    acme = await made(await ops("POST", "/v1/organizations", {"name": "acme"}))
    path = "/v1/organizations/acme/credits"
    none = await ops("GET", path)
    assert value(none) == {"id": acme["id"], "name": "acme", "granted": None, "used": 0, "left": None, "version": 1}
    added = await ops("POST", path, {"add": 10, "reason": "trial"})
    assert value(added) == {"id": acme["id"], "name": "acme", "granted": 10, "used": 0, "left": 10, "version": 2}
    assert (added.status, added["etag"]) == (200, '"2"')
    assert value(await ops("PATCH", path, {"granted": None}))["granted"] is None
    log = value(await ops("GET", "/v1/audit-log?organization_id=acme"))["items"]
    assert [(each["action"], each["reason"]) for each in log[:2]] == [
        ("organization.credits", None),
        ("organization.credits", "trial"),
    ]
    key = await new_key(ops)
    assert value(await ops("POST", f"/v1/api-keys/{key['id']}/credits", {"add": 3}))["left"] == 3
    assert value(await ops("GET", f"/v1/api-keys/{key['id']}/credits"))["granted"] == 3


async def test_what_the_api_refuses(ops: Caller) -> None:
    """Another version, amounts out of range, fields of another operation, holders that are not there."""
    await made(await ops("POST", "/v1/organizations", {"name": "acme"}))
    path = "/v1/organizations/acme/credits"
    assert (await ops("POST", path, {"add": 10}, more=b'If-Match: "1"\r\n')).status == 200
    assert (await ops("POST", path, {"add": 10}, more=b'If-Match: "1"\r\n')).status == 412
    for method, body in (("POST", {"add": 0}), ("POST", {"granted": 1}), ("PATCH", {"granted": -1}), ("PATCH", {})):
        assert (await ops(method, path, body)).status in (400, 422)
    assert code(await ops("GET", "/v1/organizations/nowhere/credits")) == "not_found"
    assert value(await ops("GET", path))["granted"] == 10
