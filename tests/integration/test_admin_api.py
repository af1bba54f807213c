"""The admin API on real PostgreSQL and Redis: plans, organizations, keys, and the actors that changed them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.admin.api import AdminApi
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.backends.redis.topology import connect
from extauthz.core.credentials import Credential
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis as RedisServer
from tests.servers.admin_api import TOKENS, Caller, code, fields, made, new_key, services, serving, value
from tests.servers.fixtures import stopped
from tests.servers.management_client import KEY_FORMAT, ManagementClient

SOON = (datetime.now(UTC) + timedelta(days=30)).isoformat()


@pytest.fixture
async def ops(pool: Pool, redis: RedisClient) -> AsyncIterator[Caller]:
    """A client with the token `ops`."""
    async with serving(AdminApi(services(pool, redis), TOKENS)) as port:
        yield Caller(port)


async def test_the_life_of_a_plan(ops: Caller) -> None:
    """A plan is made, found by id and by name, changed, and removed."""
    body = {"name": "gold plan", "rate": "100/min", "burst": 50, "daily_quota": None, "monthly_quota": 10**12}
    plan = await made(await ops("POST", "/v1/plans", body))
    assert {name: plan[name] for name in body} == body
    for path in (f"/v1/plans/{plan['id']}", "/v1/plans/gold%20plan"):
        found = await ops("GET", path)
        assert (found.status, value(found), found["etag"]) == (200, plan, '"1"')
    changed = await ops("PATCH", "/v1/plans/gold%20plan", {"burst": 60, "monthly_quota": None})
    assert value(changed) | {"updated_at": ""} == plan | {
        "burst": 60, "monthly_quota": None, "version": 2, "updated_at": ""
    }  # fmt: skip
    assert (await ops("POST", "/v1/plans", body)).status == 409
    assert await ops.gone(f"/v1/plans/{plan['id']}")
    assert code(await ops("GET", f"/v1/plans/{plan['id']}")) == "not_found"
    assert code(await ops("DELETE", "/v1/plans/default")) == "conflict"


async def test_the_life_of_an_organization(ops: Caller) -> None:
    """An organization is made, found by id and by any name it may have, changed, and removed."""
    name = 'a/b ü {"x"} %2F 🦊'
    path = "/v1/organizations/a%2Fb%20%C3%BC%20%7B%22x%22%7D%20%252F%20%F0%9F%A6%8A"
    organization = await made(await ops("POST", "/v1/organizations", {"name": name}))
    assert (organization["name"], organization["plan"], organization["status"]) == (name, "default", "active")
    assert value(await ops("GET", path)) == organization
    changes = {"status": "suspended", "rate": "1/d", "burst": 1, "name": "acme"}
    changed = value(await ops("PATCH", path, changes))
    assert {key: changed[key] for key in changes} == changes
    assert value(await ops("PATCH", "/v1/organizations/acme", {"rate": None, "burst": None}))["rate"] is None
    for body, status in (({"plan": "nowhere"}, 404), ({"plan": "default"}, 200), ({"daily_quota": 0}, 200)):
        assert (await ops("PATCH", "/v1/organizations/acme", body)).status == status
    assert await ops.gone(f"/v1/organizations/{organization['id']}")
    assert (await ops("GET", "/v1/organizations/acme")).status == 404


async def test_calendar_and_end_of_own_limits(ops: Caller) -> None:
    """Calendar, mode and end of overrides are changed; null removes the end; an invalid value is named by its field."""
    organization = await made(await ops("POST", "/v1/organizations", {"name": "acme"}))
    ours = {"until": None, "limits_mode": "enforce", "timezone": "UTC", "anchor": 1}
    assert {name: organization[name] for name in ours} == ours
    changes = {"limits_mode": "shadow", "timezone": "Europe/Berlin", "anchor": 31, "burst": 200}
    changed = value(await ops("PATCH", "/v1/organizations/acme", {**changes, "until": SOON}))
    assert {name: changed[name] for name in changes} == changes
    assert datetime.fromisoformat(changed["until"]) == datetime.fromisoformat(SOON)
    assert value(await ops("GET", "/v1/organizations"))["items"] == [changed]
    assert value(await ops("PATCH", "/v1/organizations/acme", {"until": None}))["until"] is None
    assert (changed["timezone_from"], changed["anchor_from"]) == (None, None)  # nothing was charged yet
    first = {"timezone": "Asia/Tokyo", "anchor": 15}
    other = await made(await ops("POST", "/v1/organizations", {"name": "other", **first}))
    assert {name: other[name] for name in (*first, "timezone_from", "anchor_from")} == {
        **first,
        "timezone_from": None,
        "anchor_from": None,
    }
    nothing_to_end = await ops("PATCH", "/v1/organizations/other", {"until": SOON})
    assert (nothing_to_end.status, fields(nothing_to_end)) == (422, ["until"])
    for field, wrong in (("timezone", "Europe/Berlln"), ("anchor", 32)):
        refused = await ops("POST", "/v1/organizations", {"name": "third", field: wrong})
        assert (refused.status, fields(refused)) == (422, [field])
    for field, wrong in (
        ("timezone", "Europe/Berlln"),
        ("until", "2001-01-01T00:00:00Z"),
        ("until", "9999-12-31T00:00:00Z"),
    ):
        refused = await ops("PATCH", "/v1/organizations/acme", {field: wrong})
        assert (refused.status, fields(refused)) == (422, [field])
    assert (
        "did you mean Europe/Berlin?"
        in value(await ops("PATCH", "/v1/organizations/acme", {"timezone": "Europe/Berlln"}))["detail"]
    )


async def test_an_organization_with_a_usable_key_stays(ops: Caller) -> None:
    """An organization with a usable key cannot be deleted, nor a plan that an organization has."""
    await made(await ops("POST", "/v1/plans", {"name": "gold"}))
    await made(await ops("POST", "/v1/organizations", {"name": "acme", "plan": "gold"}))
    key = await new_key(ops)
    assert code(await ops("DELETE", "/v1/plans/gold")) == "conflict"
    assert code(await ops("DELETE", "/v1/organizations/acme")) == "conflict"
    refused = await ops("DELETE", f"/v1/api-keys/{key['id']}")
    assert (code(refused), "ask with ?last=true" in value(refused)["detail"]) == ("conflict", True)
    assert (await ops("DELETE", f"/v1/api-keys/{key['id']}?last=true")).status == 200
    assert await ops.gone("/v1/organizations/acme")


async def test_a_key_is_shown_once(ops: Caller) -> None:
    """The key itself is in the answer that made it and in no other; without `permissions` it has all of them."""
    limits = {"rate": "5/s", "burst": 5, "daily_quota": 0, "monthly_quota": 7, "hourly_quota": 9}
    terms = {"name": "ci 🦊", "expires_at": SOON, "metadata": {"owner": "ü"}, **limits}
    key = await new_key(ops, **terms)
    secret = key.pop("key")
    assert isinstance(KEY_FORMAT.read(secret), Credential)
    assert secret.startswith(key["handle"].split("…")[0])
    assert key["permissions"] == {"*": ["read", "write"]}
    assert datetime.fromisoformat(key["expires_at"]) == datetime.fromisoformat(SOON)
    assert {name: key[name] for name in terms if name != "expires_at"} == {
        name: term for name, term in terms.items() if name != "expires_at"
    }
    shown = await ops("GET", f"/v1/api-keys/{key['id']}")
    assert value(shown) == key
    log = await ops("GET", "/v1/audit-log")
    assert secret not in (shown.body + log.body).decode()


async def test_a_key_is_changed(ops: Caller) -> None:
    """What is sent is changed, what is absent stays, null clears."""
    key = await new_key(ops, name="old", expires_at=SOON, metadata={"a": "b"}, rate="5/s", burst=5)
    path = f"/v1/api-keys/{key['id']}"
    changed = value(await ops("PATCH", path, {"expires_at": None, "rate": None, "burst": None, "permissions": {}}))
    assert (changed["expires_at"], changed["rate"], changed["permissions"]) == (None, None, {})
    assert (changed["name"], changed["metadata"], changed["version"]) == ("old", {"a": "b"}, 2)
    past = await ops("PATCH", path, {"expires_at": "2001-01-01T00:00:00Z"})
    assert (past.status, fields(past)) == (422, ["expires_at"])
    far = await ops("PATCH", path, {"expires_at": "9999-12-31T23:59:59-12:00"})
    assert (far.status, fields(far)) == (422, ["expires_at"])


async def test_disable_enable_and_revoke_are_idempotent(ops: Caller) -> None:
    """A repeated call changes nothing and succeeds; a revoked key is never enabled again."""
    key = await new_key(ops)
    path = f"/v1/api-keys/{key['id']}"
    for verb, status in (("disable", "disabled"), ("enable", "active")):
        once, again = [await ops("POST", f"{path}/{verb}") for _ in range(2)]
        assert (once.status, value(once)["status"]) == (200, status)
        assert value(again) == value(once)
    assert code(await ops("POST", f"{path}/revoke")) == "conflict"
    revoked = await ops("POST", f"{path}/revoke", {"last": True})
    assert (revoked.status, value(revoked)["status"]) == (200, "revoked")
    for again in (await ops("POST", f"{path}/revoke"), await ops("DELETE", path)):
        assert value(again) == value(revoked)
    for method, more, body in (("POST", "/enable", {}), ("POST", "/rotate", {}), ("PATCH", "", {"name": "x"})):
        refused = await ops(method, path + more, body)
        assert (refused.status, code(refused)) == (409, "conflict")
        assert "revoked" in value(refused)["detail"]


async def test_a_key_is_rotated(ops: Caller) -> None:
    """The new key is shown once and has what the old one had; the old one ends with its grace and names the new one."""
    terms: dict[str, Any] = {"name": "ci", "permissions": {"*": ["read"]}, "metadata": {"a": "b"}, "daily_quota": 5}
    old = await new_key(ops, **terms)
    path = f"/v1/api-keys/{old['id']}"
    answer = await ops("POST", f"{path}/rotate", {"grace": "1h"})
    new = await made(answer)
    assert {name: new[name] for name in terms} == terms
    assert new["key"] != old["key"]
    assert new["old"]["rotated_to"] == new["id"]
    assert new["old"] == value(await ops("GET", path))
    left = datetime.fromisoformat(new["old"]["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    again = await ops("POST", f"{path}/rotate")
    assert (again.status, code(again)) == (409, "conflict")
    assert new["id"] in value(again)["detail"]


async def test_a_key_is_imported(ops: Caller) -> None:
    """A key of another system is taken in without ever being shown; a bad one is refused without being repeated."""
    await ops("POST", "/v1/organizations", {"name": "acme"})
    secret = "key-of-another-system-0123456789"
    answer = await ops("POST", "/v1/api-keys/import", {"organization_id": "acme", "key": secret, "name": "old"})
    imported = await made(answer)
    assert "key" not in imported
    assert secret not in answer.body.decode()
    again = await ops("POST", "/v1/api-keys/import", {"organization_id": "acme", "key": secret})
    assert (again.status, code(again)) == (409, "conflict")
    for bad in ("xa_live_0123456789012345", "with blanks with blanks", "a" * 15, "\ud800" * 20, "e30.e30.c2lnbmF0dXJl"):
        refused = await ops("POST", "/v1/api-keys/import", {"organization_id": "acme", "key": bad})
        assert (refused.status, fields(refused)) == (422, ["key"]), bad
        assert bad not in refused.body.decode()


async def test_the_audit_log_names_the_actor(ops: Caller) -> None:
    """Every change is in the audit log under the name of the token that made it, newest first, and in pages."""
    key = await new_key(ops, name="one")
    ci = Caller(ops.port, TOKENS["ci"])
    await ci("PATCH", f"/v1/api-keys/{key['id']}", {"name": "two"})
    await ci("POST", f"/v1/api-keys/{key['id']}/rotate")
    log = value(await ops("GET", "/v1/audit-log?organization_id=acme"))["items"]
    assert {entry["actor"] for entry in log} == {"token:ops", "token:ci"}
    renamed = next(entry for entry in log if entry["action"] == "api_key.update")
    assert (renamed["actor"], renamed["subject_id"]) == ("token:ci", key["id"])
    assert renamed["diff"] == {"name": ["one", "two"]}
    assert "api_key.rotate" in {entry["action"] for entry in log}
    filtered = value(await ops("GET", f"/v1/audit-log?api_key_id={key['id']}&by=ci&since=1h"))["items"]
    assert filtered
    assert {(entry["actor"], entry["subject_id"]) for entry in filtered} == {("token:ci", key["id"])}
    assert (await ops("GET", "/v1/audit-log?plan=none")).status == 404
    assert (await ops("GET", "/v1/audit-log?since=yesterday")).status == 400
    first = value(await ops("GET", "/v1/audit-log?limit=1"))
    second = value(await ops("GET", f"/v1/audit-log?limit=1&cursor={first['next']}"))
    assert first["items"][0]["id"] > second["items"][0]["id"]


async def test_a_similar_name_is_suggested(ops: Caller) -> None:
    """The detail of a 404 suggests a similar name, of an organization and of a plan."""
    await new_key(ops)
    for path, name in (
        ("/v1/organizations/ACME", "acme"),
        ("/v1/plans/defualt", "default"),
        ("/v1/usage?organization_id=acm", "acme"),
        ("/v1/audit-log?organization_id=acmee", "acme"),
        ("/v1/api-keys?organization_id=Acme", "acme"),
    ):
        answer = await ops("GET", path)
        assert (answer.status, code(answer)) == (404, "not_found"), path
        assert f"(did you mean '{name}'?)" in value(answer)["detail"]


async def test_peppers_are_reported(ops: Caller) -> None:
    """The answer names the pepper that signs first, and has the number of keys of each."""
    await new_key(ops)
    items = value(await ops("GET", "/v1/peppers"))["items"]
    assert items[0] == {"id": "p1", "configured": True, "signs": True, "keys": 1, "usable": 1}
    assert items[1] == {"id": "p2", "configured": True, "signs": False, "keys": 0, "usable": 0}


async def test_resources_without_a_route_are_refused(ops: Caller) -> None:
    """Where routes name their resources, a permission for any other is refused by name when it is written."""
    key = await new_key(ops, permissions={"api": ["read"], "*": ["write"]})
    for answer in (
        await ops("POST", "/v1/api-keys", {"organization_id": "acme", "permissions": {"name": ["read"]}, "name": "x"}),
        await ops("PATCH", f"/v1/api-keys/{key['id']}", {"permissions": {"name": ["read"]}}),
    ):
        assert (answer.status, fields(answer)) == (422, ["permissions"])
        assert "resource name" in value(answer)["detail"]


async def test_a_limit_that_no_request_fits(ops: Caller) -> None:
    """A limit below the cost of a route is accepted, and the answer has a warning."""
    key = await new_key(ops)
    limits = {"rate": None, "burst": None, "daily_quota": 0}
    for method, path, body in (
        ("POST", "/v1/plans", {"name": "none", **limits}),
        ("PATCH", "/v1/plans/none", {"monthly_quota": 5}),
        ("POST", "/v1/organizations", {"name": "tiny", "plan": "none"}),
        ("PATCH", "/v1/organizations/tiny", {"daily_quota": 1, "monthly_quota": 0}),
        ("POST", "/v1/api-keys", {"organization_id": "tiny", **limits}),
        ("PATCH", f"/v1/api-keys/{key['id']}", {"daily_quota": 0}),
    ):
        answer = await ops(method, path, body)
        assert (answer.status // 100, answer["x-extauthz-warning"]) == (2, "limit_below_cost"), path
    for path, fine in (
        ("/v1/organizations/tiny", {"limits_mode": "shadow"}),
        ("/v1/organizations/tiny", {"limits_mode": "enforce", "monthly_quota": 1}),
        (f"/v1/api-keys/{key['id']}", {"daily_quota": 1}),
        ("/v1/plans/none", {"daily_quota": None}),
    ):
        answer = await ops("PATCH", path, fine)
        assert (answer.status, answer["x-extauthz-warning"]) == (200, ""), path


async def test_without_redis_a_change_stands(database: str, redis_server: RedisServer) -> None:
    """Without Redis the change is made all the same, and the answer has a warning."""
    async with (
        open_pool(database, size=2, wait=5, statement_timeout=5) as pool,
        connect(redis_server.redis_url, patience=1) as redis,
        serving(AdminApi(services(pool, redis), TOKENS)) as port,
    ):
        ops = Caller(port)
        key = await new_key(ops)
        told = await ops("POST", f"/v1/api-keys/{key['id']}/disable")
        assert (told.status, told["x-extauthz-warning"]) == (200, "")
        with stopped(redis_server):
            answer = await ops("POST", f"/v1/api-keys/{key['id']}/enable")
            assert (answer.status, answer["x-extauthz-warning"]) == (200, "redis_not_told")
            assert value(answer)["status"] == "active"


async def test_without_postgresql_it_is_unavailable(
    database: str, postgres_server: Postgres, redis: RedisClient
) -> None:
    """503 with Retry-After while PostgreSQL is away; then as before."""
    async with (
        open_pool(database, size=2, wait=1, statement_timeout=1) as pool,
        serving(AdminApi(services(pool, redis), TOKENS)) as port,
    ):
        ops = Caller(port)
        assert (await ops("GET", "/v1/plans")).status == 200
        with stopped(postgres_server):
            answer = await ops("GET", "/v1/plans")
            assert (answer.status, code(answer), answer["retry-after"]) == (503, "store_unavailable", "1")
            assert (await ops("GET", "/v1/openapi.json")).status == 200
        assert (await ops("GET", "/v1/plans")).status == 200


async def test_a_corrupt_row_is_named(ops: Caller, operator: ManagementClient) -> None:
    """A row that was edited into a corrupt one is reported by its id, without its values."""
    await new_key(ops)
    await operator.drop_checks()
    await operator.sql("""UPDATE api_keys SET permissions = '["sesame"]'""")
    answer = await ops("GET", "/v1/api-keys")
    assert (answer.status, code(answer)) == (500, "record_corrupt")
    assert b"sesame" not in answer.body
