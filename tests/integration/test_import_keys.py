"""Import of keys that another system issued, on real PostgreSQL."""

from datetime import UTC, datetime

import pytest

from extauthz.backends.postgres.records import PostgresKeySource
from extauthz.core.errors import AlreadyImported, Conflict, ExtauthzError, InvalidInput, NotFound
from extauthz.core.keys import ApiKey
from extauthz.core.management import KeyDetails, KeyTerms
from tests.servers.management_client import KEY_FORMAT, PEPPERS, ManagementClient

FOREIGN = "sk-0123456789.abcdef~/+Z=="


async def test_an_imported_key_is_a_key(operator: ManagementClient) -> None:
    """A check finds it, with its terms; lists show its last four characters and nothing of its beginning."""
    await operator.tenants.create_organization("acme")
    terms = KeyTerms("moved", {"customer": frozenset({"read"})}, None, {"from": "elsewhere"})
    details = await operator.keys.import_key("acme", FOREIGN, terms)
    assert (details.terms, details.handle, details.pepper_id) == (terms, f"…{FOREIGN[-4:]}", "p1")
    (found,) = await PostgresKeySource(operator.pool).find([KEY_FORMAT.digest(FOREIGN)], 1.0)
    assert isinstance(found, ApiKey)
    assert (found.id, found.permissions) == (details.id, terms.permissions)
    with pytest.raises(NotFound, match="'umbrella'"):
        await operator.keys.import_key("umbrella", FOREIGN, terms)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "is made of A-Z a-z 0-9"),
        ("fifteen-letters", "has at least 16 characters"),
        ("xa_live_0123456789abcdefghijklmnopqrstuv", "prefix of our own"),
        ("xa_test_0123456789abcdefghijklmnopqrstuv", "prefix of our own"),
        ("xa_0123456789012345", "prefix of our own"),
        (KEY_FORMAT.issue(bytes(20)), "prefix of our own"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "the shape of a JWT"),
        ("0123456789abcdef ", "must hold no blank and no line break"),
        ("0123456789 abcdef", "must hold no blank and no line break"),
        ("0123456789abcdef\n", "must hold no blank and no line break"),
        ("0123456789abcdef\0", "is made of A-Z a-z 0-9"),
        ("0123456789=abcdef", "is made of A-Z a-z 0-9"),
        ("0123456789abcdé", "is made of A-Z a-z 0-9"),
        ("0123456789abcde\udcff", "is made of A-Z a-z 0-9"),
        ('0123456789"abcdef{}', "is made of A-Z a-z 0-9"),
    ],
)
async def test_text_that_cannot_be_a_key_is_refused(operator: ManagementClient, key: str, words: str) -> None:
    """The error says why, and repeats no part of the text."""
    await operator.tenants.create_organization("acme")
    with pytest.raises(InvalidInput) as refused:
        await operator.keys.import_key("acme", key, KeyTerms())
    assert words in str(refused.value)
    assert key == "" or key[8:] not in str(refused.value)
    assert await operator.keys.list_of("acme") == []


async def test_a_key_that_exists_is_not_imported(operator: ManagementClient) -> None:
    """The error says where the key is: already there, in another organization, revoked, or revoked and deleted."""
    for name in ("acme", "umbrella"):
        await operator.tenants.create_organization(name)
    details = await operator.keys.import_key("acme", FOREIGN, KeyTerms())
    other_way_round = operator.key_service(PEPPERS[::-1])
    with pytest.raises(AlreadyImported, match=f"there already as {details.id}$"):
        await operator.keys.import_key("acme", FOREIGN, KeyTerms())
    with pytest.raises(AlreadyImported, match=f"there already as {details.id}, under the pepper p1"):
        await other_way_round.import_key("acme", FOREIGN, KeyTerms())
    for keys in (operator.keys, other_way_round):
        with pytest.raises(Conflict, match=f"there already as {details.id}, of another organization") as refused:
            await keys.import_key("umbrella", FOREIGN, KeyTerms())
        assert not isinstance(refused.value, AlreadyImported)
    await operator.keys.revoke(details.id, last=True)
    for keys in (operator.keys, other_way_round):
        with pytest.raises(Conflict, match="and revoked; a revoked key never comes back"):
            await keys.import_key("acme", FOREIGN, KeyTerms())
    await operator.tenants.delete_organization("acme")
    for keys in (operator.keys, other_way_round):
        with pytest.raises(Conflict, match="was revoked and deleted; a revoked key never comes back"):
            await keys.import_key("umbrella", FOREIGN, KeyTerms())
    assert await operator.keys.list_of("umbrella") == []


async def test_a_key_that_is_there_in_another_state(operator: ManagementClient) -> None:
    """A key in another state does not count as there: disabled, expired, with other permissions, a later end."""
    await operator.tenants.create_organization("acme")
    soon, later = datetime(2090, 1, 1, tzinfo=UTC), datetime(2091, 1, 1, tzinfo=UTC)
    may = {"customer": frozenset({"read", "write"})}
    key = await operator.keys.import_key("acme", FOREIGN, KeyTerms(permissions=may, expires_at=later))

    async def said(terms: KeyTerms) -> str:
        (outcome,) = await operator.keys.import_many("acme", [(FOREIGN, terms)])
        assert isinstance(outcome, Conflict)
        return f"{type(outcome).__name__} {str(outcome).partition(key.id)[2]}"

    await operator.sql("""UPDATE api_keys SET permissions = '{"customer": ["write", "read"]}'""")
    for same in (KeyTerms(permissions=may), KeyTerms(name="x", permissions=may, expires_at=later)):
        assert await said(same) == "AlreadyImported "
    assert await said(KeyTerms(permissions=may, expires_at=soon)) == (
        "Conflict , and ends later than is asked; `keys update` changes that"
    )
    assert await said(KeyTerms()) == "Conflict , with other permissions; `keys update` changes them"
    await operator.keys.disable(key.id)
    assert await said(KeyTerms(permissions=may)) == "Conflict , and disabled; `keys enable` brings it back"
    await operator.keys.enable(key.id)
    await operator.sql("UPDATE api_keys SET expires_at = now() - interval '1 second'")
    assert await said(KeyTerms(permissions=may)) == "Conflict , and expired; `keys update` brings it back"
    twice = [("foreign-key-number-1", KeyTerms(permissions=may)), ("foreign-key-number-1", KeyTerms())]
    outcomes = await operator.keys.import_many("acme", twice)
    assert [type(outcome) for outcome in outcomes] == [KeyDetails, Conflict]


async def test_one_bad_row_spares_the_others(operator: ManagementClient) -> None:
    """Each gets its own answer, in order; twice in one batch is once."""
    await operator.tenants.create_organization("acme")
    keys = [f"foreign-key-number-{number}" for number in range(4)]
    items = [
        (keys[0], KeyTerms("first")),
        ("short", KeyTerms()),
        (keys[1], KeyTerms("a\x1b")),
        (keys[2], KeyTerms("third")),
        (keys[0], KeyTerms("again")),
        (keys[3], KeyTerms(permissions={"a b": frozenset()})),
        (keys[3], KeyTerms(metadata={"a": "b"})),
    ]
    outcomes = await operator.keys.import_many("acme", items)
    kinds = [KeyDetails, InvalidInput, InvalidInput, KeyDetails, AlreadyImported, InvalidInput, KeyDetails]
    assert [type(outcome) for outcome in outcomes] == kinds
    assert [each.name for each in outcomes if isinstance(each, KeyDetails)] == ["first", "third", ""]
    assert len(await operator.keys.list_of("acme")) == 3
    again = await operator.keys.import_many("acme", items)
    assert [type(each) for each in again if not isinstance(each, InvalidInput)] == [AlreadyImported] * 4
    assert all(isinstance(each, ExtauthzError) for each in again)
    assert await operator.keys.import_many("acme", []) == []


async def test_many_keys_are_imported_at_once(operator: ManagementClient) -> None:
    """A batch of a file is one transaction."""
    await operator.tenants.create_organization("acme")
    outcomes = await operator.keys.import_many("acme", [(f"foreign-key-{n:010}", KeyTerms()) for n in range(500)])
    assert all(isinstance(outcome, KeyDetails) for outcome in outcomes)
    rows = await operator.rows("SELECT count(*) AS keys FROM audit_log WHERE action = 'api_key.import'")
    assert rows[0]["keys"] == 500


async def test_keys_of_each_pepper(operator: ManagementClient) -> None:
    """Peppers in the order of the settings; one that the settings lack is listed too."""
    await operator.tenants.create_organization("acme")
    await operator.key_service(PEPPERS[1:]).create("acme", KeyTerms())
    revoked, _ = await operator.new_key("acme")
    await operator.keys.revoke(revoked.id, last=False)
    await operator.new_key("acme")
    await operator.sql(
        """INSERT INTO api_keys (organization_id, hash, pepper_id, handle, permissions)
           SELECT id, %s, 'lost', 'h', '{}' FROM organizations""",
        b"x" * 32,
    )
    uses = [(use.id, use.signs, use.keys, use.usable) for use in await operator.keys.peppers()]
    assert uses == [("p1", True, 2, 1), ("p2", False, 1, 1), ("lost", False, 1, 1)]
