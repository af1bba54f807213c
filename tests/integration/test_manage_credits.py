"""Credits as operators grant them: what was granted in total, what is left of it, and the reasons given."""

from datetime import timedelta

import pytest

from extauthz.core.changes import EntityRef
from extauthz.core.credits import CREDITS_MAX, REASON_MAX
from extauthz.core.errors import Conflict, InvalidInput, NotFound, VersionMismatch
from tests.servers.management_client import ACTOR, ManagementClient

OWN = "00000000-0000-0000-0000-000000000000"
ACME = EntityRef("organization", "acme")


async def use(operator: ManagementClient, organization_id: str, key_id: str, used: int) -> None:
    await operator.sql("INSERT INTO credits_used VALUES (%s, %s, %s)", organization_id, key_id, used)


async def test_an_organization_has_no_credits_until_some_are_granted(operator: ManagementClient) -> None:
    """Absent means that there is no such limit; grants add up to a total, and `set` replaces or removes it."""
    acme = await operator.tenants.create_organization("acme")
    none = await operator.credits.show(ACME)
    assert (none.id, none.granted, none.used, none.left) == (acme.id, None, 0, None)
    await operator.credits.add(ACME, 10)
    await use(operator, acme.id, OWN, 7)
    more, told = await operator.credits.add(ACME, 5, reason="trial, second week")
    assert told
    assert more.to_json() == {"id": acme.id, "name": "acme", "granted": 15, "used": 7, "left": 8, "version": 3}
    assert await operator.credits.show(EntityRef("organization", acme.id)) == more
    fewer, _ = await operator.credits.set(ACME, 4)
    assert (fewer.granted, fewer.left) == (4, 0)
    without, _ = await operator.credits.set(ACME, None)
    assert (without.granted, without.used, without.left) == (None, 7, None)
    again, _ = await operator.credits.add(ACME, 3)
    assert (again.granted, again.left) == (10, 3)


async def test_what_is_not_saved_yet_counts(operator: ManagementClient) -> None:
    """A grant after `none` begins with all that was used, also in the seconds that PostgreSQL is behind Redis."""
    acme = await operator.tenants.create_organization("acme")
    await operator.credits.add(ACME, 100)
    await use(operator, acme.id, OWN, 60)
    await operator.redis.hset(f"tenant_limits:{{{acme.id}}}", "credits", "100")
    assert (await operator.credits.show(ACME)).left == 0
    await operator.credits.set(ACME, None)
    again, _ = await operator.credits.add(ACME, 50)
    assert (again.granted, again.used, again.left) == (150, 100, 50)


async def test_a_key_has_credits_of_its_own(operator: ManagementClient) -> None:
    """They are apart from its organization's and from other keys', and end with the key."""
    key, _ = await operator.new_key("acme")
    other, _ = await operator.new_key("acme")
    await operator.credits.add(EntityRef("api_key", key.id), 6)
    await use(operator, key.organization_id, key.id, 2)
    shown = await operator.credits.show(EntityRef("api_key", key.id))
    assert (shown.id, shown.granted, shown.used, shown.left) == (key.id, 6, 2, 4)
    for holder in (ACME, EntityRef("api_key", other.id)):
        assert (await operator.credits.show(holder)).granted is None
    with pytest.raises(Conflict, match="has credits of its own"):
        await operator.keys.rotate(key.id, grace=timedelta(hours=1))
    await operator.keys.rotate(other.id, grace=timedelta(hours=1))
    await operator.keys.revoke(key.id, last=True)
    with pytest.raises(Conflict, match="the key is revoked"):
        await operator.credits.add(EntityRef("api_key", key.id), 1)


async def test_a_grant_is_audited_and_announced(operator: ManagementClient) -> None:
    """With its actor, its action, both totals and the reason; an entry of another change has none."""
    key, _ = await operator.new_key("acme")
    await operator.credits.add(ACME, 10, reason="trial")
    await operator.credits.set(EntityRef("api_key", key.id), 3)
    of_key, of_acme, created, *_ = (await operator.audit.page(limit=200)).items
    assert (of_acme.actor, of_acme.action, of_acme.diff, of_acme.reason) == (
        *(ACTOR, "organization.credits"),
        *({"credits": [None, 10]}, "trial"),
    )
    assert of_acme.to_json()["reason"] == "trial"
    assert (of_key.action, of_key.diff, of_key.reason) == ("api_key.credits", {"credits": [None, 3]}, None)
    assert (created.action, created.reason) == ("api_key.create", None)
    for kind, id_ in (("organization", key.organization_id), ("api_key", key.id)):
        assert await operator.fence(kind, id_) is not None


async def test_a_grant_that_is_sent_twice_is_granted_once(operator: ManagementClient) -> None:
    """Where it names the version that it is meant for, the second is refused and changes nothing."""
    acme = await operator.tenants.create_organization("acme")
    once, _ = await operator.credits.add(ACME, 10, version=acme.row_version)
    with pytest.raises(VersionMismatch):
        await operator.credits.add(ACME, 10, version=acme.row_version)
    assert await operator.credits.show(ACME) == once


async def test_what_cannot_be_granted_is_refused(operator: ManagementClient) -> None:
    """Amounts out of range, reasons that cannot be kept, holders that are not there."""
    key, _ = await operator.new_key("acme")
    await operator.credits.set(ACME, CREDITS_MAX)
    for amount in (0, -1, CREDITS_MAX + 1, True):
        with pytest.raises(InvalidInput, match="add must be a whole number from 1 to"):
            await operator.credits.add(ACME, amount)
    for total in (-1, CREDITS_MAX + 1):
        with pytest.raises(InvalidInput, match="credits must be a whole number from 0 to"):
            await operator.credits.set(ACME, total)
    with pytest.raises(InvalidInput, match=f"at most {CREDITS_MAX} in total"):
        await operator.credits.add(ACME, 1)
    for reason, words in (("x" * (REASON_MAX + 1), "at most 500 characters"), ("a\nb", "no control")):
        with pytest.raises(InvalidInput, match=words):
            await operator.credits.set(ACME, 1, reason=reason)
    assert (await operator.credits.show(ACME)).granted == CREDITS_MAX
    for holder in (EntityRef("organization", "acne"), EntityRef("api_key", key.organization_id)):
        with pytest.raises(NotFound):
            await operator.credits.show(holder)
        with pytest.raises(NotFound):
            await operator.credits.add(holder, 1)
