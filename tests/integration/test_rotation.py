"""Rotation of keys, on real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from extauthz.core.errors import Conflict, InvalidInput
from extauthz.core.limits import Limits, Rate
from extauthz.core.management import KeyTerms
from tests.servers.management_client import KEY_FORMAT, ManagementClient

HOUR = timedelta(hours=1)
SOON = timedelta(minutes=1)  # more than a test takes


async def test_a_new_key_has_the_terms_of_the_old_one(operator: ManagementClient) -> None:
    """Permissions, limits and metadata are the old key's, never more; the old one lasts until the grace is over."""
    await operator.tenants.create_organization("acme")
    terms = KeyTerms("ci", {"customer": frozenset({"read"})}, None, {"team": "blue"}, Limits(Rate(1, 1), 5, 7, 0))
    old, key = await operator.keys.create("acme", terms)
    now = datetime.now(UTC)
    rotated = await operator.keys.rotate(old.id, grace=HOUR)
    assert rotated.told
    assert rotated.key.terms == terms
    assert (rotated.key.organization_id, rotated.key.status(now)) == (old.organization_id, "active")
    assert KEY_FORMAT.plausible(rotated.secret)
    assert rotated.secret != key
    assert rotated.old.rotated_to == rotated.key.id
    assert rotated.old.expires_at is not None
    assert now + HOUR <= rotated.old.expires_at < now + HOUR + SOON
    assert rotated.old.terms == KeyTerms("ci", terms.permissions, rotated.old.expires_at, terms.metadata, terms.limits)
    assert [each.id for each in await operator.keys.list_of("acme")] == [rotated.key.id, old.id]
    assert await operator.fence("api_key", old.id) is not None


async def test_how_long_both_keys_live(operator: ManagementClient) -> None:
    """The old one never longer than before; the new one as long as the old one was given, or as the caller says."""
    now = datetime.now(UTC)
    given = timedelta(days=30)
    old, _ = await operator.new_key("acme", expires_at=now + given)
    await operator.sql(
        "UPDATE api_keys SET created_at = created_at - interval '20 days', expires_at = expires_at - interval '20 days'"
    )
    ends = (await operator.keys.show(old.id)).expires_at
    assert ends is not None
    rotated = await operator.keys.rotate(old.id, grace=timedelta(days=300))
    assert rotated.old.expires_at == ends
    assert rotated.key.expires_at is not None
    assert given - SOON < rotated.key.expires_at - now < given + SOON
    told = now + timedelta(days=3)
    again = await operator.keys.rotate(rotated.key.id, grace=timedelta(0), expires_at=told)
    assert again.key.expires_at == told
    assert again.old.status(datetime.now(UTC)) == "expired"


@pytest.mark.parametrize(("written", "year"), [("infinity", None), ("9998-06-01", 9998)])
async def test_an_expiry_at_the_end_of_time(operator: ManagementClient, written: str, year: int | None) -> None:
    """An expiry that PostgreSQL can hold and Python cannot does not break a rotation."""
    old, _ = await operator.new_key("acme")
    await operator.sql("UPDATE api_keys SET expires_at = %s, created_at = '2000-01-01'", written)
    rotated = await operator.keys.rotate(old.id, grace=HOUR)
    assert (None if rotated.key.expires_at is None else rotated.key.expires_at.year) == year


async def test_keys_that_cannot_be_rotated(operator: ManagementClient) -> None:
    """A key with a successor names it; a revoked, disabled or expired one is refused; no key is made."""
    old, _ = await operator.new_key("acme")
    successor = (await operator.keys.rotate(old.id, grace=HOUR)).key
    revoked, disabled, expired = [(await operator.new_key("acme"))[0].id for _ in range(3)]
    await operator.keys.revoke(revoked, last=False)
    await operator.keys.disable(disabled)
    await operator.sql("UPDATE api_keys SET expires_at = now() WHERE id::text = %s", expired)
    count = len(await operator.keys.list_of("acme"))
    for key_id, words in (
        (old.id, f"was rotated already; its successor is {successor.id}"),
        (revoked, "the key is revoked"),
        (disabled, "the key is disabled"),
        (expired, "the key is expired"),
    ):
        with pytest.raises(Conflict, match=words):
            await operator.keys.rotate(key_id, grace=HOUR)
    for grace in (timedelta(seconds=-1), timedelta(days=366), timedelta.max):
        with pytest.raises(InvalidInput, match="grace is from 0 to 365 days"):
            await operator.keys.rotate(successor.id, grace=grace)
    with pytest.raises(InvalidInput, match="is in the past"):
        await operator.keys.rotate(successor.id, grace=HOUR, expires_at=datetime(2000, 1, 1, tzinfo=UTC))
    assert len(await operator.keys.list_of("acme")) == count


async def test_a_grace_period_only_shrinks(operator: ManagementClient) -> None:
    """The grace of a key with a successor can be shortened, never extended."""
    old, _ = await operator.new_key("acme")
    end = (await operator.keys.rotate(old.id, grace=HOUR)).old.expires_at
    assert end is not None
    successor = (await operator.keys.show(old.id)).rotated_to
    for later in (None, end + timedelta(microseconds=1)):
        with pytest.raises(Conflict, match=f"not later; its successor is {successor}"):
            await operator.keys.update(old.id, {"expires_at": later})
    for sooner in (end, end - timedelta(minutes=30)):
        assert (await operator.keys.update(old.id, {"expires_at": sooner, "name": "ends"}))[0].expires_at == sooner
    assert (await operator.keys.update(old.id, {"name": "still ends"}))[0].rotated_to == successor


async def test_of_two_rotations_at_once_one_wins(operator: ManagementClient, database: str) -> None:
    """Both have begun before either can end; the other is answered with the key in force, and only one key is made."""
    old, _ = await operator.new_key("acme")
    async with await psycopg.AsyncConnection.connect(database) as elsewhere:
        await elsewhere.execute("SELECT FROM api_keys FOR UPDATE")
        rotations = [asyncio.create_task(operator.keys.rotate(old.id, grace=HOUR)) for _ in range(2)]
        async with asyncio.timeout(10):
            while (await operator.rows("SELECT count(*) AS n FROM pg_locks WHERE NOT granted"))[0]["n"] < 2:
                assert not any(rotation.done() for rotation in rotations)
        await elsewhere.rollback()
    outcomes = await asyncio.gather(*rotations, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Rotated"]
    new, old = await operator.keys.list_of("acme")
    assert old.rotated_to == new.id
    (conflict,) = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert new.id in str(conflict)


async def test_a_rotation_and_a_revocation_at_once(operator: ManagementClient) -> None:
    """In either order a revoked key gets no younger successor, and neither call waits forever."""
    for number in range(10):
        old, _ = await operator.new_key(f"acme {number}")
        outcomes = await asyncio.gather(
            operator.keys.rotate(old.id, grace=HOUR), operator.keys.revoke(old.id, last=True), return_exceptions=True
        )
        assert not [each for each in outcomes if isinstance(each, BaseException) and not isinstance(each, Conflict)]
        assert (await operator.keys.show(old.id)).revoked_at is not None
