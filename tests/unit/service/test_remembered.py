"""Results of a credential at a route are remembered no longer than the records that they come from."""

import gc
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from time import monotonic
from types import FunctionType, MethodType, ModuleType
from typing import Any

import pytest

from extauthz.core.changes import Change, EntityRef
from extauthz.core.decision import Deny
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.permissions import FULL_ACCESS
from extauthz.core.reason import Reason
from extauthz.core.spend import Spend
from extauthz.service.check import remembered as module
from extauthz.service.check.remembered import Bounded, Place, Remembered
from tests.unit.service.asking import KEY_ITSELF, ORGANIZATION
from tests.unit.service.fakes import KEY, KEY_FORMAT, NEW_DIGEST, NOW, SECRET, TENANT, FakeService, open_house

PATH, OTHER_SECRET = "/api/customers/7", KEY_FORMAT.issue(b"\x08" * 20)
OTHER_KEY = replace(KEY, id="key-2", digest=KEY_FORMAT.digest(OTHER_SECRET).digests[0])


@pytest.fixture
async def fake_service() -> AsyncIterator[FakeService]:
    """The records of its key have been read."""
    async with open_house() as fake_service:
        await fake_service.ask()
        yield fake_service


def find(
    fake_service: FakeService, path: str = PATH, *, key: str = SECRET, now: float | None = None, later: float = 0.0
) -> Remembered | None:
    """The remembered result of a key at a path; `later` by so many monotonic seconds."""
    route = fake_service.service.find_route("GET", "api.example.com", path)
    place, at = Place(route, door="envoy"), fake_service.now if now is None else now
    return fake_service.fast.memory.find(place, f"Bearer {key}".encode(), at, monotonic() + later)


def asked(fake_service: FakeService, path: str = PATH) -> Spend:
    """The spend that is remembered of the key."""
    found = find(fake_service, path)
    assert found is not None
    assert found.spend is not None
    return found.spend


def refused(fake_service: FakeService, path: str = PATH) -> Reason:
    """Why the key is remembered to be denied."""
    found = find(fake_service, path)
    assert found is not None
    assert isinstance(found.decision, Deny)
    return found.decision.reason


async def test_the_same_is_found_again(fake_service: FakeService) -> None:
    """Once records are cached, and each time its use is noted; a key without a check before is not found."""
    fake_service.last_used._times.clear()
    found = find(fake_service)
    assert found is not None
    assert find(fake_service) is found
    assert list(fake_service.last_used._times) == [KEY.id]
    assert find(fake_service, key=OTHER_SECRET) is None


PLAN = EntityRef("plan", TENANT.plan_id)
CHANGES: dict[str, tuple[ApiKey, EntityRef]] = {
    "revoked": (replace(KEY, revoked_at=NOW), KEY_ITSELF),
    "disabled": (replace(KEY, disabled_at=NOW), KEY_ITSELF),
    "suspended": (replace(KEY, tenant=replace(TENANT, status="suspended")), ORGANIZATION),
    "permissions": (replace(KEY, permissions={"report": frozenset({"read"})}), KEY_ITSELF),
    "limits of the key": (replace(KEY, limits=Limits(daily_quota=5)), KEY_ITSELF),
    "limits": (replace(KEY, tenant=replace(TENANT, limits=Limits(daily_quota=5))), ORGANIZATION),
    "plan": (replace(KEY, tenant=replace(TENANT, plan="free", limits=Limits(Rate(1, 1), 1))), PLAN),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_nothing_outlives_a_change(fake_service: FakeService, change: str) -> None:
    """A received change ends what is remembered; once records are read again, new results are remembered."""
    before, (key, thing) = asked(fake_service), CHANGES[change]
    fake_service.change(key, thing)
    assert find(fake_service) is None
    await fake_service.ask()
    if change in ("revoked", "disabled"):
        assert find(fake_service) is None
    elif change == "suspended":
        assert refused(fake_service) is Reason.ORGANIZATION_SUSPENDED
    elif change == "permissions":
        assert refused(fake_service) is Reason.PERMISSION_DENIED
    else:
        after = asked(fake_service)
        assert (after.limits, after.key_limits) == (key.tenant.limits, key.limits)
        assert after != before


async def test_a_change_of_another_key_changes_nothing(fake_service: FakeService) -> None:
    """The records are confirmed against it once, and what is remembered stays the same object."""
    found = find(fake_service)
    fake_service.invalidations.apply(Change(EntityRef("api_key", "another"), 10_000))
    assert find(fake_service) is found
    assert found is not None
    assert found.records is not None
    assert found.records.epoch == fake_service.invalidations.epoch


async def test_denied_and_allowed_in_turn(fake_service: FakeService) -> None:
    """A key that loses a permission and has it back is remembered accordingly, each time."""
    for _ in range(3):
        fake_service.change(replace(KEY, permissions={}), KEY_ITSELF)
        await fake_service.ask()
        assert refused(fake_service) is Reason.PERMISSION_DENIED
        fake_service.change(KEY, KEY_ITSELF)
        await fake_service.ask()
        assert asked(fake_service).cost == 1


async def test_expiry_ends_results() -> None:
    """At a key's expiry, and at the end of its own limits, neither is used."""
    tenant = replace(TENANT, overrides_until=NOW + 20, plan_limits=Limits(daily_quota=7))
    async with open_house() as fake_service:
        fake_service.store(replace(KEY, expires_at=NOW + 25, tenant=tenant))
        await fake_service.ask()
        assert asked(fake_service).limits == TENANT.limits
        fake_service.now = NOW + 20
        assert asked(fake_service).limits == tenant.plan_limits
        assert find(fake_service, now=NOW + 24.9) is not None
        assert find(fake_service, now=NOW + 25) is None


async def test_steps_of_clocks(fake_service: FakeService) -> None:
    """A step of one clock does not prolong what the other one ends."""
    assert find(fake_service, now=NOW - 86_400) is not None
    assert find(fake_service, now=NOW - 86_400, later=121) is None
    assert find(fake_service, now=NOW + 86_400) is None
    assert find(fake_service) is not None


async def test_a_feed_that_is_lost(fake_service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are used for some seconds more, and then, and when the feed is back, only once confirmed."""
    fake_service.freshness.flowing(False)
    assert find(fake_service) is not None
    with monkeypatch.context() as patch:
        patch.setattr("extauthz.service.directory.invalidation.monotonic", lambda: monotonic() + 6)
        assert find(fake_service) is None
    assert find(fake_service) is not None
    fake_service.freshness.flowing(True)
    assert find(fake_service) is None


async def test_stale_records_are_the_pipelines(fake_service: FakeService) -> None:
    """While PostgreSQL is away, results are remembered to their records' end; stale records need the pipeline."""
    await fake_service.lose(fake_service.postgresql)
    assert find(fake_service) is not None
    fake_service.now += 130
    assert find(fake_service) is None
    assert (await fake_service.ask()).reason is Reason.ALLOW
    assert find(fake_service) is None


async def test_nothing_is_shared() -> None:
    """Two keys, or two routes, are remembered apart, and so are the answers of two listeners."""
    async with open_house() as fake_service:
        for key in (KEY, OTHER_KEY):
            fake_service.store(replace(key, permissions=FULL_ACCESS))
        for secret in (SECRET, OTHER_SECRET):
            await fake_service.ask(PATH, f"Bearer {secret}")
        keys = {secret: found.subject for secret in (SECRET, OTHER_SECRET) if (found := find(fake_service, key=secret))}
        assert {secret: key and key.id for secret, key in keys.items()} == {SECRET: KEY.id, OTHER_SECRET: OTHER_KEY.id}
        assert [asked(fake_service, path).cost for path in (PATH, "/api/reports/1", PATH)] == [1, 15, 1]
        route = fake_service.service.find_route("GET", "", PATH)
        names = {Place(route, door=door).digest for door in ("envoy", "nginx", "envoy")}
        assert len(names) == 2


def test_the_oldest_is_let_go() -> None:
    """When it is full, each new entry evicts the oldest; one that is put again is neither older nor counted twice."""
    kept: Bounded[int, str] = Bounded(3)
    for number in range(10):
        kept.put(number, str(number))
        assert [each for each in range(10) if kept.get(each)] == list(range(max(number - 2, 0), number + 1))
    kept.put(9, "again")
    kept.drop(8)
    assert [kept.get(each) for each in (7, 8, 9)] == ["7", None, "again"]


async def test_denials_push_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Denials of malformed keys and of resources without permission, however many, evict no other entry."""
    monkeypatch.setattr(module, "DENIED_MAX", 2)
    async with open_house() as fake_service:
        await fake_service.ask()
        found = find(fake_service)
        for number in range(50):
            assert find(fake_service, key=f"nonsense-{number} x") is not None
            assert find(fake_service, f"/api/other-{number}/1") is not None
        assert len(fake_service.fast.memory._denied._kept) <= 2
        assert find(fake_service) is found


async def test_many_are_let_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more entries than room, the last ones are the same as before."""
    monkeypatch.setattr(module, "REMEMBERED_MAX", 3)
    async with open_house() as fake_service:
        fake_service.store(replace(KEY, permissions=FULL_ACCESS))
        await fake_service.ask()
        first, *last = [find(fake_service, f"/api/r{number}/1") for number in range(4)]
        assert [find(fake_service, f"/api/r{number}/1") for number in (1, 2, 3)] == last
        assert find(fake_service, "/api/r0/1") is not first


async def test_results_are_dropped_with_their_key(fake_service: FakeService) -> None:
    """When a key is evicted its results are dropped; those of another key stay."""
    fake_service.keys.held[OTHER_KEY.digest] = OTHER_KEY
    await fake_service.ask(PATH, f"Bearer {OTHER_SECRET}")
    other = find(fake_service, key=OTHER_SECRET)
    assert find(fake_service) is not None
    fake_service.lookup.keys.local.held.drop(KEY.digest)
    assert list(fake_service.fast.memory._remembered._kept.values()) == [other]


async def test_one_key_at_many_places(fake_service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notes on a key's results are bounded, and earlier ones are dropped."""
    monkeypatch.setattr(module, "OF_ONE_KEY_MAX", 3)
    fake_service.change(replace(KEY, permissions=FULL_ACCESS), KEY_ITSELF)
    await fake_service.ask()
    for number in range(10):
        assert find(fake_service, f"/api/r{number}/1") is not None
    entry = fake_service.lookup.keys.local.held.get(KEY.digest)
    assert entry is not None
    assert len(entry.remembered) == len(fake_service.fast.memory._remembered._kept) == 1


def texts_in(root: object) -> Iterator[str | bytes]:
    """Every text and every bytes object reachable from an object, without code."""
    seen, waiting = set[int](), [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType | MethodType):
            continue
        seen.add(id(each))
        if isinstance(each, str | bytes):
            yield each
        waiting += gc.get_referents(each)


async def test_no_key_is_in_memory(fake_service: FakeService) -> None:
    """Of a credential, allowed, denied or malformed, only digests are remembered."""
    malformed = f"{SECRET} x"
    assert find(fake_service) is not None
    assert find(fake_service, "/api/other/1") is not None
    assert find(fake_service, key=malformed) is not None
    memory: Any = fake_service.fast.memory
    found = list(texts_in([memory._remembered, memory._denied]))
    assert NEW_DIGEST in found
    assert not [text for text in found if SECRET[8:] in (text if isinstance(text, str) else text.decode("latin-1"))]
