"""One request, step by step: the order of denials, and decisions while a store is away or has corrupt records."""

from collections.abc import Sequence
from dataclasses import replace
from time import sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.credentials import Credential
from extauthz.core.decision import Allow, Decision, Deny
from extauthz.core.errors import StoreCorrupt
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.ports import POSTGRESQL
from extauthz.core.reason import Reason
from extauthz.core.subject import Identity
from extauthz.transports.http.dialect import Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx
from tests.unit.service.fakes import KEY, KEY_FORMAT, NOW, SECRET, TENANT, FakeService, open_house

WHO = Identity("org-1", "key-1", "customer:read", "pro")
OTHER = f"Bearer {KEY_FORMAT.issue(bytes(20))}"


def reasons(*decisions: Decision) -> list[Reason]:
    return [decision.reason for decision in decisions]


async def test_a_request_that_passes() -> None:
    """The answer names the subject, the cost and the remainder, and is observed."""
    async with open_house() as fake_service:
        decision = await fake_service.ask()
        assert isinstance(decision, Allow)
        assert (decision.identity, decision.cost, decision.degraded) == (WHO, 1, False)
        assert decision.balance is not None
        assert [(standing.name, standing.remaining) for standing in decision.balance.limit_statuses] == [
            ("burst", 19),
            ("daily", 999),
        ]
        assert fake_service.watch.decisions == [("envoy", decision)]


async def test_order_of_refusals() -> None:
    """Path, route, credential, key, organization, permission, limits: with each one fixed, the next one decides."""
    async with open_house() as fake_service:
        fake_service.store(replace(KEY, revoked_at=1.0, permissions={}, tenant=replace(TENANT, status="suspended")))
        found = [
            await fake_service.ask("/api/../x", "Basic x"),
            await fake_service.ask("/nowhere", "Basic x"),
            await fake_service.ask("/api/reports/1", "Basic x"),
            await fake_service.ask("/api/reports/1", "Bearer"),
            await fake_service.ask("/api/reports/1", OTHER),
            await fake_service.ask("/api/reports/1"),
        ]
        tiny = replace(TENANT, limits=Limits(Rate(1, 1), 10, 0))
        for tenant, permissions in (
            (replace(tiny, status="suspended"), {}),
            (tiny, {}),
            (tiny, {"report": frozenset({"read"})}),
            (replace(TENANT, limits=Limits(daily_quota=15)), {"report": frozenset({"read"})}),
        ):
            fake_service.change(replace(KEY, tenant=tenant, permissions=permissions), *KEY.made_of, *TENANT.made_of)
            found.append(await fake_service.ask("/api/reports/1"))
        found.append(await fake_service.ask("/api/reports/1"))
        assert reasons(*found) == [
            Reason.PATH_AMBIGUOUS,
            Reason.ROUTE_NOT_ALLOWED,
            Reason.NO_CREDENTIALS,
            Reason.MALFORMED_CREDENTIALS,
            Reason.INVALID_CREDENTIALS,
            Reason.INVALID_CREDENTIALS,
            Reason.ORGANIZATION_SUSPENDED,
            Reason.PERMISSION_DENIED,
            Reason.COST_EXCEEDS_LIMIT,
            Reason.ALLOW,
            Reason.DAILY_QUOTA_EXCEEDED,
        ]
        assert [decision for _, decision in fake_service.watch.decisions] == found
        assert fake_service.limits.calls == 2


async def test_decisions_without_a_store() -> None:
    """A denial before the key is read and a public route use no store, so requests of strangers cost little."""
    async with open_house() as fake_service:
        wrong = SECRET[:-1] + ("a" if SECRET[-1] != "a" else "b")
        for path, header in (
            ("/api/./x", SECRET),
            ("/nowhere", SECRET),
            ("/api/customers", "Basic x"),
            ("/api/customers", "Bearer x y"),
            ("/api/customers", f"Bearer {wrong}"),
            ("/public/x", ""),
            ("/public/x", f"Bearer {SECRET}"),
        ):
            await fake_service.ask(path, header)
        stores = (
            fake_service.keys,
            fake_service.key_cache,
            fake_service.tenants,
            fake_service.tenant_cache,
            fake_service.limits,
        )
        assert [store.calls for store in stores] == [0] * 5
        assert await fake_service.ask("/public/x", "") == Allow()


async def test_one_answer_for_every_invalid_key() -> None:
    """Unknown, wrong, expired, revoked, disabled, unreadable: the same bytes in every dialect."""
    async with open_house(cache_keys=False) as fake_service:
        found = [
            await fake_service.ask("/api/customers", header) for header in (OTHER, "Bearer xa_live_x", "Bearer short")
        ]
        for changes in ({"expires_at": NOW}, {"revoked_at": NOW + 60}, {"disabled_at": 0.0}):
            fake_service.store(replace(KEY, **changes))  # type: ignore[arg-type] # only times are changed
            found.append(await fake_service.ask())
        fake_service.keys.error = StoreCorrupt(POSTGRESQL, "permissions must be an object")
        found.append(await fake_service.ask())
        assert reasons(*found) == [Reason.INVALID_CREDENTIALS] * 7
        for dialect in (Envoy(Wording()), Nginx(Wording()), Forward(Wording())):
            assert len({repr(dialect.render(decision)) for decision in found}) == 1
        assert fake_service.limits.calls == 0


async def test_a_cached_key_still_expires() -> None:
    """`expires_at` is looked at in every request, cached or not."""
    async with open_house() as fake_service:
        fake_service.store(replace(KEY, expires_at=NOW + 10))
        before, after = await fake_service.ask(now=NOW + 9.9), await fake_service.ask(now=NOW + 10)
        assert reasons(before, after) == [Reason.ALLOW, Reason.INVALID_CREDENTIALS]
        assert fake_service.keys.calls == 1


async def test_a_proxy_that_asks_nothing() -> None:
    """The denial of a request without method or path is observed like any other."""
    async with open_house() as fake_service:
        result = fake_service.service.refuse_proxy_request("nginx", 0.0)
        assert result.decision.reason is Reason.BAD_PROXY_REQUEST
        assert fake_service.watch.decisions == [("nginx", result.decision)]


async def test_a_burst_ends_in_429() -> None:
    """As many requests as the burst pass, the next gets the time to retry, and then passes."""
    async with open_house() as fake_service:
        found = [await fake_service.ask() for _ in range(21)]
        assert reasons(*found) == [Reason.ALLOW] * 20 + [Reason.RATE_LIMITED]
        last = found[-1]
        assert isinstance(last, Deny)
        assert last.retry_after == 1
        fake_service.limits.now += last.retry_after
        assert isinstance(await fake_service.ask(), Allow)


@given(
    st.text(st.characters(exclude_categories=()), max_size=12).map("/api/{}".format) | st.text(max_size=12),
    st.text(st.characters(exclude_categories=()), max_size=12),
    st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)
async def test_anything_is_a_decision(path: str, method: str, authorization: str) -> None:
    """Any path, method and credential give a decision that every dialect can carry; no exception, no 503."""
    fake_service = FakeService()
    for guard in (fake_service.postgresql, fake_service.redis):
        await guard.start()
    for header in (authorization, f"Bearer {SECRET}"):
        decision = await fake_service.ask(path, header, method=method)
        for dialect in (Envoy(Wording()), Nginx(Wording()), Forward(Wording())):
            answer = dialect.render(decision)
            assert answer.status < 500
            assert all(value.isascii() and (value.isprintable() or not value) for _, value in answer.headers)


async def test_check_past_its_deadline_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check whose deadline passed in a busy worker spends all the same, or overload would bypass limits."""
    async with open_house() as fake_service:
        find = fake_service.key_cache.find

        async def slowly(
            asked: Sequence[Credential], now: float, *, ended: bool = False
        ) -> list[ApiKey | StoreCorrupt | None]:
            sleep(0.03)  # noqa: ASYNC251 - the event loop itself is late
            return await find(asked, now, ended=ended)

        monkeypatch.setattr(fake_service.key_cache, "find", slowly)
        decision = await fake_service.ask(patience=0.02)
        assert isinstance(decision, Allow)
        assert not decision.degraded
        assert fake_service.limits.calls == 1
