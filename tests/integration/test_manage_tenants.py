"""Plans and organizations as an operator manages them, on real stores."""

import pytest

from extauthz.backends.postgres.records import PostgresTenantSource
from extauthz.core.errors import Conflict, InvalidInput, NotFound, VersionMismatch
from extauthz.core.management import KeyTerms, Organization, Plan
from extauthz.core.tenants import Tenant
from extauthz.demo.redis import Redis as Server
from tests.servers.fixtures import stopped
from tests.servers.management_client import NO_LIMITS, ManagementClient

NOW = 1_800_000_000.0
NOBODY = "00000000-0000-0000-0000-000000000000"
LIMITS: dict[str, object] = {"rate": "5/s", "burst": 50, "daily_quota": 1000, "monthly_quota": None}


def content(thing: Plan | Organization) -> dict[str, object]:
    """All fields but those that count its changes."""
    return {name: value for name, value in thing.to_json().items() if name not in ("updated_at", "version")}


async def test_the_life_of_a_plan(operator: ManagementClient) -> None:
    """A plan is made, listed by name, changed one limit at a time, and removed when no organization has it."""
    gold = await operator.tenants.create_plan("gold", LIMITS)
    assert {key: value for key, value in gold.to_json().items() if key in LIMITS} == LIMITS
    assert [plan.name for plan in await operator.tenants.list_plans()] == ["default", "gold"]
    assert await operator.tenants.show_plan("gold") == gold
    changed, told = await operator.tenants.update_plan("gold", {"rate": "1/d", "daily_quota": None})
    assert told
    assert content(changed) == content(gold) | {"rate": "1/d", "daily_quota": None}
    assert (gold.row_version, changed.row_version, changed.updated_at > gold.updated_at) == (1, 2, True)
    assert await operator.tenants.show_plan(gold.id) == changed
    unlimited, _ = await operator.tenants.update_plan("gold", {"rate": None, "burst": None})
    assert (unlimited.limits.rate, unlimited.limits.burst) == (None, None)
    await operator.tenants.create_organization("acme", "gold")
    with pytest.raises(Conflict, match=r"organizations still have the plan 'gold' \(1\); give them another first"):
        await operator.tenants.delete_plan("gold")
    await operator.tenants.update_organization("acme", {"plan": "default"})
    await operator.tenants.delete_plan("gold")
    with pytest.raises(NotFound, match="no plan is called 'gold'"):
        await operator.tenants.show_plan("gold")


async def test_an_invalid_plan_is_refused(operator: ManagementClient) -> None:
    """A taken name, invalid limits, or an unknown plan: the error says so, and nothing changes."""
    before = await operator.tenants.list_plans()
    for attempt, error, words in (
        (operator.tenants.create_plan("default", LIMITS), Conflict, "of that name is there already"),
        (operator.tenants.create_plan("a/b", LIMITS), InvalidInput, "a plan's name is 1 to 64 "),
        (operator.tenants.create_plan("gold", LIMITS | {"rate": "banana"}), InvalidInput, "rate must be a number"),
        (
            operator.tenants.create_plan("gold", LIMITS | {"rate": "0.0001"}),
            InvalidInput,
            "must have at most 3 decimals",
        ),
        (operator.tenants.create_plan("gold", LIMITS | {"burst": None}), InvalidInput, "go together"),
        (
            operator.tenants.create_plan("gold", LIMITS | {"burst": 0}),
            InvalidInput,
            "burst must be a whole number from 1",
        ),
        (
            operator.tenants.create_plan("gold", LIMITS | {"daily_quota": -1}),
            InvalidInput,
            "daily_quota must be a whole",
        ),
        (
            operator.tenants.update_plan("default", {"rate": None}),
            InvalidInput,
            "go together: both or none",
        ),
        (
            operator.tenants.update_plan("default", {"name": "gold"}),
            InvalidInput,
            "name cannot be changed; what can: rate",
        ),
        (operator.tenants.update_plan("default", {"burst": 9}, version=2), VersionMismatch, "its version is 1 now"),
        (operator.tenants.update_plan("gold", {}), NotFound, "no plan is called 'gold'"),
        (operator.tenants.delete_plan("gold"), NotFound, "no plan is called 'gold'"),
        (operator.tenants.delete_plan("default"), Conflict, "the plan 'default' stays: organizations get it when none"),
    ):
        with pytest.raises(error) as refused:
            await attempt
        assert words in str(refused.value)
    assert await operator.tenants.list_plans() == before


async def test_the_life_of_an_organization(operator: ManagementClient) -> None:
    """An organization gets the default plan, is found by id or name, changed, cleared of overrides, and removed."""
    await operator.tenants.create_plan("gold", LIMITS)
    acme = await operator.tenants.create_organization("acme")
    assert (acme.plan, acme.status, set(acme.overrides.values())) == ("default", "active", {None})
    for reference in (acme.id, "acme"):
        assert await operator.tenants.show_organization(reference) == acme
    umbrella = await operator.tenants.create_organization("Umbrella Ltd. & Söhne", "gold")
    assert {each.id: each for each in await operator.tenants.list_organizations()} == {
        acme.id: acme,
        umbrella.id: umbrella,
    }
    changes: dict[str, object] = {"plan": "gold", "rate": "1/min", "burst": 3, "daily_quota": 0}
    changed, told = await operator.tenants.update_organization("acme", changes)
    assert told
    assert content(changed) == content(acme) | changes
    suspended, _ = await operator.tenants.update_organization(acme.id, {"status": "suspended", "daily_quota": None})
    assert content(suspended) == content(changed) | {"status": "suspended", "daily_quota": None}
    cleared, _ = await operator.tenants.update_organization("acme", {"rate": None, "burst": None, "status": "active"})
    assert content(cleared) == content(acme) | {"plan": "gold"}
    gone, told = await operator.tenants.delete_organization("acme")
    assert (gone, told) == (cleared, True)
    with pytest.raises(NotFound, match="no organization has the id or name 'acme'"):
        await operator.tenants.show_organization("acme")


async def test_an_invalid_organization_is_refused(operator: ManagementClient) -> None:
    """A taken name, one in the form of an id, overrides that do not fit the plan: an error, and nothing changes."""
    await operator.tenants.create_organization("acme")
    await operator.tenants.create_plan("free", {"rate": None, "burst": None, "daily_quota": 5, "monthly_quota": None})
    before = await operator.tenants.list_organizations()
    name_refused = "an organization's name is 1 to 255 characters"
    for attempt, error, words in (
        (operator.tenants.create_organization("acme"), Conflict, "of that name is there already"),
        (operator.tenants.create_organization(NOBODY), InvalidInput, name_refused),
        (operator.tenants.create_organization(" acme"), InvalidInput, name_refused),
        (operator.tenants.create_organization("umbrella", "gold"), NotFound, "no plan is called 'gold'"),
        (operator.tenants.update_organization("umbrella", {}), NotFound, "no organization has the id or name"),
        (operator.tenants.update_organization("acme", {"plan": "gold"}), NotFound, "no plan is called 'gold'"),
        (operator.tenants.update_organization("acme", {"rate": "banana"}), InvalidInput, "rate must be a number"),
        (operator.tenants.update_organization("acme", {"burst": 10**10}), InvalidInput, "burst must be a whole number"),
        (
            operator.tenants.update_organization("acme", {"plan": "free", "rate": "1"}),
            InvalidInput,
            "rate and burst go together",
        ),
        (
            operator.tenants.update_organization("acme", {"status": "paused"}),
            InvalidInput,
            "status is active or suspended",
        ),
        (operator.tenants.update_organization("acme", {"name": NOBODY}), InvalidInput, name_refused),
        (operator.tenants.update_organization("acme", {"name": None}), InvalidInput, "name must be a text"),
        (operator.tenants.update_organization("acme", {"id": NOBODY}), InvalidInput, "id cannot be changed; what can:"),
        (
            operator.tenants.update_organization("acme", {"plan": "free"}, version=9),
            VersionMismatch,
            "version is 1 now",
        ),
        (operator.tenants.delete_organization("umbrella"), NotFound, "no organization has the id or name 'umbrella'"),
    ):
        with pytest.raises(error) as refused:
            await attempt
        assert words in str(refused.value)
    assert await operator.tenants.list_organizations() == before


async def test_an_organization_gets_another_name(operator: ManagementClient) -> None:
    """It keeps its id and its keys; a name that is taken is refused."""
    acme = await operator.tenants.create_organization("acme")
    await operator.tenants.create_organization("umbrella")
    renamed, told = await operator.tenants.update_organization("acme", {"name": "Acme & Söhne"}, version=1)
    assert (renamed.id, renamed.name, renamed.row_version, told) == (acme.id, "Acme & Söhne", 2, True)
    assert await operator.tenants.show_organization("Acme & Söhne") == renamed
    with pytest.raises(Conflict, match="of that name is there already"):
        await operator.tenants.update_organization(acme.id, {"name": "umbrella"})


async def test_names_are_normalized(operator: ManagementClient) -> None:
    """A name is stored in one form and found by every other; invisible characters are refused."""
    made = await operator.tenants.create_organization("Cafe\u0301\u00a0Nord")
    assert made.name == "Caf\u00e9 Nord"
    for typed in (made.name, "Cafe\u0301 Nord", "Caf\u00e9\u3000Nord"):
        assert (await operator.tenants.show_organization(typed)).id == made.id
        assert (await operator.tenants.update_organization(typed, {"status": "active"}))[0].id == made.id
        assert (await operator.keys.list_keys(typed)).items == []
        with pytest.raises(Conflict):
            await operator.tenants.create_organization(typed)
    await operator.tenants.create_plan("gold\u00a0plan", NO_LIMITS)
    assert (await operator.tenants.show_plan("gold\u2003plan")).name == "gold plan"
    for hidden in ("\u200b", "\u200f", "\u202e", "\u2069", "\ufeff", "\u3164"):
        for work in (
            operator.tenants.create_organization(f"acme{hidden}"),
            operator.tenants.update_organization(made.id, {"name": f"Caf\u00e9{hidden} Nord"}),
            operator.keys.create(made.id, KeyTerms(name=f"key{hidden}")),
            operator.tenants.create_plan(f"gold{hidden}", NO_LIMITS),
        ):
            with pytest.raises(InvalidInput, match=rf"^name must .* \(got U\+{ord(hidden):04X}\)$"):
                await work
    key, _ = await operator.keys.create(made.id, KeyTerms(name="de\u0301ploy\u00a0it"))
    assert key.name == "d\u00e9ploy it"
    assert (await operator.keys.update(key.id, {"name": "ci\u00a0"}))[0].name == "ci "


async def test_rows_with_other_names_are_still_reached(operator: ManagementClient) -> None:
    """A name that SQL has stored in another form is shown, and found by its id and by exactly that name."""
    for name in ("Cafe\u0301", "acme\u200b"):
        await operator.sql("INSERT INTO organizations (name, plan_id) SELECT %s, id FROM plans LIMIT 1", name)
        found = await operator.tenants.show_organization(name)
        assert (found.name, (await operator.tenants.show_organization(found.id)).name) == (name, name)
        changed, _ = await operator.tenants.update_organization(found.id, {"status": "suspended"})
        assert (changed.name, changed.status) == (name, "suspended")
    made = await operator.tenants.create_organization("Cafe\u0301")
    assert (await operator.tenants.show_organization("Caf\u00e9")).id == made.id


async def test_an_id_takes_precedence_over_a_name(operator: ManagementClient) -> None:
    """A name in the form of an id is refused; where SQL has stored one, the id takes precedence."""
    gold = await operator.tenants.create_plan("gold", LIMITS)
    acme = await operator.tenants.create_organization("acme", gold.id.upper())
    assert acme.plan == "gold"
    with pytest.raises(InvalidInput, match=r"a plan's name is 1 to 64 .* and does not look like an id"):
        await operator.tenants.create_plan(gold.id, LIMITS)
    await operator.drop_checks()
    await operator.tenants.create_plan(gold.id, LIMITS)
    other = await operator.tenants.create_organization(acme.id)
    assert await operator.tenants.show_plan(gold.id) == gold
    assert (await operator.tenants.update_plan(gold.id, {"burst": 51}))[0].name == "gold"
    assert await operator.tenants.show_organization(acme.id) == acme
    assert (await operator.tenants.update_organization(acme.id, {"plan": gold.id, "burst": 3}))[0].name == "acme"
    assert (await operator.tenants.delete_organization(acme.id))[0].name == "acme"
    assert await operator.tenants.show_organization(acme.id) == other


@pytest.mark.parametrize("form", ["hex", "urn:uuid:{id}", "{{{id}}}", "{id} ", "{id}\n"])
async def test_an_id_has_one_form(operator: ManagementClient, form: str) -> None:
    """An id in another form that Python accepts is a name: it does not stand for the organization of that id."""
    acme = await operator.tenants.create_organization("acme")
    text = acme.id.replace("-", "") if form == "hex" else form.format(id=acme.id)
    with pytest.raises(NotFound):
        await operator.tenants.show_organization(text)
    with pytest.raises(NotFound):
        await operator.audit.page(text)
    if text == text.strip():
        named = await operator.tenants.create_organization(text)
        assert await operator.tenants.show_organization(text) == named


async def test_pages_hold_everything_once(operator: ManagementClient) -> None:
    """Plans and organizations come newest first, page by page."""
    names = [f"thing {number}" for number in range(5)]
    for name in names:
        await operator.tenants.create_plan(name, LIMITS)
        await operator.tenants.create_organization(name)
    for read, expected in (
        (operator.tenants.page_of_plans, [*names[::-1], "default"]),
        (operator.tenants.page_of_organizations, names[::-1]),
    ):
        seen: list[str] = []
        cursor = None
        while True:
            page = await read(limit=2, cursor=cursor)
            seen += [thing.name for thing in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert seen == expected


async def test_an_organization_with_usable_keys_is_not_removed(operator: ManagementClient) -> None:
    """After its keys are revoked it is deleted with all of them, and the shared cache is told."""
    details, _ = await operator.new_key("acme")
    with pytest.raises(Conflict, match=r"the organization still has usable keys \(1\); revoke them first"):
        await operator.tenants.delete_organization("acme")
    await operator.keys.revoke(details.id, last=True)
    gone, told = await operator.tenants.delete_organization("acme")
    assert (gone.id, told) == (details.organization_id, True)
    assert await operator.fence("organization", gone.id) is not None
    with pytest.raises(NotFound):
        await operator.keys.show(details.id)


async def test_a_change_of_limits_raises_one_fence(operator: ManagementClient, redis_server: Server) -> None:
    """One of the organization, or one of the plan, however many have it; where Redis is away, the caller is told."""
    acme = await operator.tenants.create_organization("acme")
    await operator.tenants.create_organization("umbrella")
    plan = await operator.tenants.show_plan("default")
    (before,) = await PostgresTenantSource(operator.pool).find([acme.id], NOW)
    assert isinstance(before, Tenant)
    await operator.redis.flushall()
    assert (await operator.tenants.update_organization("acme", {"status": "suspended"}))[1]
    assert (await operator.tenants.update_plan("default", {"burst": 21}))[1]
    invalidations = await operator.redis_dump()
    assert set(invalidations) == {f"cache_fence:organization:{acme.id}", f"cache_fence:plan:{plan.id}"}
    assert all(before.version < int(fence) for fence in invalidations.values())
    (after,) = await PostgresTenantSource(operator.pool).find([acme.id], NOW)
    assert isinstance(after, Tenant)
    assert all(after.version >= int(fence) for fence in invalidations.values())
    with stopped(redis_server):
        assert (await operator.tenants.update_organization("acme", {"status": "active"}))[1] is False
        assert (await operator.tenants.update_plan("default", {"burst": 22}))[1] is False
        assert (await operator.tenants.delete_organization("acme"))[1] is False


async def test_a_similar_name_is_suggested(operator: ManagementClient) -> None:
    """A name in another case, or with one edit, of a plan or an organization is suggested; any other is not."""
    await operator.tenants.create_plan("Gold_50", NO_LIMITS)
    for name in ("Acme", "Ärzte 1", "customer-000123", "customer-000124"):
        await operator.tenants.create_organization(name)
    for typed, name in (
        *(("acme", "Acme"), ("ACME", "Acme"), ("Acne", "Acme"), ("Acm", "Acme"), ("Accme", "Acme"), ("Acmee", "Acme")),
        *(("xAcme", "Acme"), ("cAme", "Acme"), ("acem", "Acme"), ("Acme ", "Acme"), ("ärzte 1", "Ärzte 1")),
        *(("costumer-000123", ""), ("customer-00123", "customer-000123"), ("customer-001023", "customer-000123")),
        *(("Acmeee", ""), ("Ac", ""), ("ze", ""), ("A%e", ""), ("%", ""), ("____", ""), ("x" * 5000, "")),
        (NOBODY, ""),
    ):
        with pytest.raises(NotFound) as refused:
            await operator.tenants.show_organization(typed)
        assert str(refused.value).partition("(")[2] == (f"did you mean '{name}'?)" if name else ""), typed
    plan = "did you mean 'Gold_50'"
    for attempt in (
        operator.tenants.show_plan("gold_50"),
        operator.tenants.update_plan("Gold 50", {}),
        operator.tenants.delete_plan("Gold_500"),
        operator.tenants.create_organization("new", "GOLD_50"),
        operator.tenants.update_organization("Acme", {"plan": "Gold_5"}),
    ):
        with pytest.raises(NotFound, match=plan):
            await attempt
    for asked in (
        operator.tenants.update_organization("acme", {}),
        operator.tenants.delete_organization("acme"),
        operator.keys.list_of("acme"),
        operator.keys.create("acme", KeyTerms()),
        operator.audit.page("acme"),
    ):
        with pytest.raises(NotFound, match=r"did you mean 'Acme'\?"):
            await asked
