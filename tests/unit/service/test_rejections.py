"""Rejections: every one with its organization, in groups whose number is bounded, each once."""

from dataclasses import replace

import pytest

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import deny
from extauthz.core.keys import ApiKey
from extauthz.core.reason import Reason
from extauthz.core.rejections import OTHER, SAMPLES, SPAN, Rejected
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match
from extauthz.service.usage import rejections
from extauthz.service.usage.rejections import Rejections
from tests.unit.service.fakes import KEY, NOW, RejectedRows, Watch, open_house

DENIED = deny(Reason.PERMISSION_DENIED)


def refused(
    number: int = 0,
    *,
    path: str = "/api/x",
    method: str = "GET",
    address: str = "192.0.2.1",
    now: float = NOW,
    route: str = "",
    key: ApiKey | None = None,
) -> CheckResult:
    request = CheckRequest("envoy", method, path, "h", (), f"request {number}", address, now, 0.0, 0.0)
    match = Match("x", "read", 1, public=False, cache=True, path=route) if route else None
    return CheckResult("envoy", request, now, DENIED, match, key)


@pytest.fixture
def store() -> RejectedRows:
    return RejectedRows()


@pytest.fixture
def kept(store: RejectedRows) -> Rejections:
    return Rejections(store, kept_days=30, hide=str, observer=Watch())


def rows(store: RejectedRows) -> list[Rejected]:
    return [row for batch in store.batches.values() for row in batch]


async def test_every_refusal_has_its_reason() -> None:
    """Every denial is counted, by organization and key where they are known, else by the client's address."""
    async with open_house() as fake_service:
        fake_service.store(replace(KEY, revoked_at=NOW))
        await fake_service.ask()
        await fake_service.ask("/api/customers/7", "", client_address="192.0.2.7")
        await fake_service.rejections.write()
        found = {
            (row.group.tenant_id, row.group.address, row.group.decision, row.group.reason)
            for row in rows(fake_service.rejected)
        }
    assert found == {
        (KEY.organization_id, "", "invalid_credentials", "revoked"),
        ("", "192.0.2.7", "no_credentials", ""),
    }


async def test_samples_are_the_last_ones(kept: Rejections, store: RejectedRows) -> None:
    """A group counts all of its denials, and keeps the last of them, without their queries."""
    for number in range(SAMPLES + 5):
        kept.decided(refused(number, path=f"/api/{number}?secret=1", route="/api/**", key=KEY))
    await kept.write()
    (row,) = rows(store)
    assert row.times == SAMPLES + 5
    assert [sample.request_id for sample in row.samples] == [f"request {n}" for n in range(5, SAMPLES + 5)]
    assert row.samples[0].path == "/api/5"


async def test_an_organization_has_so_many_groups(kept: Rejections, store: RejectedRows) -> None:
    """Further groups are counted under `other`, by decision; other organizations have their own room."""
    for number in range(rejections.TENANT_GROUPS + 50):
        kept.decided(refused(route=f"/{number}", key=KEY))
    kept.decided(refused(route="/of another", key=replace(KEY, organization_id="another")))
    await kept.write()
    routes = {row.group.route: row.times for row in rows(store)}
    assert len(routes) == rejections.TENANT_GROUPS + 2
    assert routes[OTHER] == 50
    assert routes["/of another"] == 1


async def test_addresses_have_so_many_groups(kept: Rejections, store: RejectedRows) -> None:
    """A thousand of them in five minutes, the rest under `other`; the next five minutes start over."""
    for number in range(rejections.UNKNOWN_GROUPS + 10):
        kept.decided(refused(address=f"10.0.{number // 256}.{number % 256}"))
    kept.decided(refused(address="192.0.2.9", now=NOW + SPAN))
    await kept.write()
    found = rows(store)
    assert len(found) == rejections.UNKNOWN_GROUPS + 2
    assert [row.times for row in found if row.group.address == OTHER] == [10]
    assert [row.group.since - int(NOW) // SPAN * SPAN for row in found if row.group.address == "192.0.2.9"] == [SPAN]


async def test_failed_batch_is_sent_again_unchanged(kept: Rejections, store: RejectedRows) -> None:
    """The same batch has the same id, so that it counts once; later denials follow in another."""
    store.away = True
    kept.decided(refused(key=KEY))
    assert not await kept.write()
    kept.decided(refused(key=KEY))
    store.away = False
    assert await kept.write()
    assert [row.times for row in rows(store)] == [1, 1]
    assert store.forgotten == [30]


async def test_memory_is_bounded(
    store: RejectedRows, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """While PostgreSQL is away, groups and samples are bounded; losses are reported."""
    monkeypatch.setattr(rejections, "GROUPS_MAX", 10)
    monkeypatch.setattr(rejections, "SAMPLES_MAX", 5)
    watch = Watch()
    kept = Rejections(store, kept_days=30, hide=str, observer=watch)
    for number in range(15):
        kept.decided(refused(key=replace(KEY, id=str(number))))
    await kept.write()
    assert len(rows(store)) == 10
    assert sum(len(row.samples) for row in rows(store)) == 5
    assert watch.lost == 5
    assert "rejections_lost" in "".join(capfd.readouterr())


async def test_nothing_is_kept_for_no_days(store: RejectedRows) -> None:
    """With 0 days, rejections are neither counted nor written."""
    kept = Rejections(store, kept_days=0, hide=str, observer=Watch())
    kept.decided(refused(key=KEY))
    assert await kept.write()
    assert not store.batches


async def test_possible_keys_are_not_kept(store: RejectedRows) -> None:
    """Neither of a path nor of a request id, nor of a method, which may be any word."""
    kept = Rejections(store, kept_days=30, hide=lambda text: text.replace("secret", "…"), observer=Watch())
    result = refused(path="/api/secret?secret", method="secret")
    kept.decided(replace(result, request=replace(result.request, request_id="secret") if result.request else None))
    await kept.write()
    (row,) = rows(store)
    assert [each[1:] for each in row.samples] == [("…", "/api/…", "…")]


async def test_all_old_rows_are_deleted(kept: Rejections, store: RejectedRows) -> None:
    """The store deletes old rows in parts; while there are more, each write deletes another part."""
    store.old = 3
    for _ in range(5):
        await kept.write()
    assert store.forgotten == [30] * 3
