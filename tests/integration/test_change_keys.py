"""Keys are changed, and listed page by page, on real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from extauthz.core.errors import Conflict, InvalidInput, VersionMismatch
from extauthz.core.limits import Limits, Rate
from tests.servers.management_client import ManagementClient


async def test_fields_of_a_key_can_be_changed(operator: ManagementClient) -> None:
    """Each field by itself: null clears, an absent one stays; the version goes up and the shared cache is told."""
    before, _ = await operator.new_key("acme", name="old")
    expires_at = datetime.now(UTC) + timedelta(days=1)
    steps: list[dict[str, object]] = [
        {"name": "new"},
        {"permissions": {"customer": ["read"]}},
        {"expires_at": expires_at},
        {"metadata": {"team": "blue", "nuance": "Grün ✓"}},
        {"rate": "100/min", "burst": 5, "daily_quota": 0},
        {"rate": None, "burst": None, "expires_at": None, "metadata": None},
    ]
    for number, changes in enumerate(steps):
        key, told = await operator.keys.update(before.id, changes, version=1 + number)
        assert (told, key.row_version) == (True, 2 + number)
        assert key == await operator.keys.show(before.id)
        fence = await operator.fence("api_key", before.id)
        assert fence is not None
        if number == 4:
            assert (key.limits, key.expires_at) == (Limits(Rate(100, 60), 5, 0, None), expires_at)
            assert dict(key.metadata) == {"team": "blue", "nuance": "Grün ✓"}
    assert (key.name, key.permissions, key.expires_at) == ("new", {"customer": frozenset({"read"})}, None)
    assert (key.metadata, key.limits) == ({}, Limits(daily_quota=0))
    same, _ = await operator.keys.update(before.id, {"name": "new"})
    assert (same.row_version, same.updated_at) == (key.row_version, key.updated_at)


async def test_an_invalid_change_changes_nothing(operator: ManagementClient) -> None:
    """Refused are invalid values, another version, and any change of a revoked key."""
    details, _ = await operator.new_key("acme")
    other, _ = await operator.new_key("acme")
    routed = operator.key_service(resources=frozenset({"customer"}))
    changes: tuple[tuple[dict[str, object], str], ...] = (
        ({"hash": "00"}, "hash cannot be changed; what can: name, permissions"),
        ({"name": None}, "name must be a text"),
        ({"permissions": ["read"]}, "permissions must be an object of lists"),
        ({"permissions": {"customer": "read"}}, "permissions must be an object of lists"),
        ({"permissions": {"customer": [None]}}, "permissions must be an object of lists"),
        ({"permissions": {"customer": ["all"]}}, "a mode must be read or write (got 'all')"),
        ({"permissions": {"invoice": []}}, "no route has the resource invoice"),
        ({"expires_at": "2100-01-01"}, "expires_at must be a time"),
        ({"expires_at": datetime(2000, 1, 1, tzinfo=UTC)}, "is in the past"),
        ({"metadata": ["a"]}, "metadata must be an object"),
        ({"metadata": {"a": 1}}, "a value in metadata must be a text"),
        ({"rate": "1/s"}, "rate and burst go together"),
        ({"rate": "banana", "burst": 1}, "rate must be a number"),
        ({"daily_quota": True}, "daily_quota must be a whole number"),
    )
    for change, words in changes:
        with pytest.raises(InvalidInput) as refused:
            await routed.update(details.id, change)
        assert words in str(refused.value)
    for attempt in (
        operator.keys.update(details.id, {"name": "a"}, version=2),
        operator.keys.disable(details.id, version=0),
        operator.keys.enable(details.id, version=7),
    ):
        with pytest.raises(VersionMismatch, match="its version is 1 now") as mismatch:
            await attempt
        assert mismatch.value.current == 1
    assert await operator.keys.show(details.id) == details
    await operator.keys.revoke(other.id, last=False)
    for attempt in (
        operator.keys.update(other.id, {"name": "a"}),
        operator.keys.disable(other.id),
        operator.keys.enable(other.id),
    ):
        with pytest.raises(Conflict, match="the key is revoked, for good"):
            await attempt


async def test_a_key_is_disabled_and_enabled(operator: ManagementClient) -> None:
    """A second call to disable or enable changes nothing."""
    details, _ = await operator.new_key("acme")
    disabled, told = await operator.keys.disable(details.id)
    assert (told, disabled.status(datetime.now(UTC)), disabled.row_version) == (True, "disabled", 2)
    assert (await operator.keys.disable(details.id))[0] == disabled
    for _ in range(2):
        enabled, told = await operator.keys.enable(details.id)
        assert (told, enabled.status(datetime.now(UTC)), enabled.row_version) == (True, "active", 3)


async def test_two_changes_of_one_key_are_both_kept(operator: ManagementClient) -> None:
    """Each change begins with what the other has stored; of two that were meant for one version, one is refused."""
    details, _ = await operator.new_key("acme")
    await asyncio.gather(
        operator.keys.update(details.id, {"name": "new"}), operator.keys.update(details.id, {"metadata": {"a": "b"}})
    )
    both = await operator.keys.show(details.id)
    assert (both.name, both.metadata, both.row_version) == ("new", {"a": "b"}, 3)
    outcomes = await asyncio.gather(
        *(operator.keys.update(details.id, {"name": name}, version=3) for name in "ab"), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["VersionMismatch", "tuple"]


async def test_pages_hold_every_key_once(operator: ManagementClient) -> None:
    """Newest first, of one organization or of all; keys that are made meanwhile move nothing."""
    made = [(await operator.new_key(name))[0] for name in ("acme", "umbrella", "acme", "acme", "umbrella")]
    await operator.sql("UPDATE api_keys SET created_at = '2026-01-01'")  # one moment for all of them: the id decides
    for organization, expected in ((None, made), ("acme", [made[0], made[2], made[3]])):
        seen, cursor = [], None
        while True:
            page = await operator.keys.list_keys(organization, limit=2, cursor=cursor)
            seen += [key.id for key in page.items]
            await operator.new_key("acme")
            cursor = page.next
            if cursor is None:
                break
        newest = [each for each in seen if each not in {key.id for key in made}]
        assert sorted(set(seen) - set(newest)) == sorted(key.id for key in expected)
        assert len(seen) == len(set(seen))
        await operator.sql("DELETE FROM api_keys WHERE created_at > '2026-02-01'")


@pytest.mark.parametrize("cursor", ["", "?", "é", "AAAA", "YSBi", "MjAyNi0wMS0wMSBi", "x" * 400])
async def test_an_invalid_cursor_is_refused(operator: ManagementClient, cursor: str) -> None:
    """Every list refuses an invalid cursor and an invalid limit with an error that says so."""
    for attempt in (
        operator.keys.list_keys(cursor=cursor),
        operator.tenants.page_of_plans(cursor=cursor),
        operator.tenants.page_of_organizations(cursor=cursor),
        operator.audit.page(cursor=cursor),
    ):
        with pytest.raises(InvalidInput, match="cursor must be one that a list has returned"):
            await attempt
    for limit in (0, -1, 201):
        with pytest.raises(InvalidInput, match="limit is a whole number from 1 to 200"):
            await operator.keys.list_keys(limit=limit)
