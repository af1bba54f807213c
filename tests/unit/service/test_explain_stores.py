"""Explanations while a store is away, holds a corrupt record, or has not the counters of an organization."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import pytest

from extauthz.core.changes import Change, EntityRef
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.ports import POSTGRESQL, REDIS, UsageStore
from extauthz.core.spend import MICRO, NotApplied, Spend, Spent, unchecked_spend
from extauthz.core.token_bucket import State
from extauthz.core.usage import ORGANIZATION, Seed, Span
from extauthz.service.check.explain.peek import Peek
from extauthz.service.limits.limiter import SPEND_ATTEMPTS_MAX
from tests.unit.service.explaining import Names, asked, explain_of, step
from tests.unit.service.fakes import KEY, NOW, SECRET, TENANT, FakeService, open_house
from tests.unit.service.test_explain import changed, said

NOT_BEGUN = NotApplied("unseeded", int(NOW) * MICRO)


async def explained(fake_service: FakeService) -> str:
    """Why the stored key is refused."""
    return said(await explain_of(fake_service, names=Names()).explain(asked(key=SECRET)))


async def test_a_key_that_cannot_be_read() -> None:
    """PostgreSQL is away, has no room at this moment, or holds a corrupt record: each has its own advice."""
    async with open_house() as fake_service:
        fake_service.keys.error = StoreUnavailable(POSTGRESQL, "busy")
        assert "more keys are to be looked up at this moment than there is room for" in await explained(fake_service)
        fake_service.keys.error = StoreCorrupt(POSTGRESQL, "the permissions")
        assert "its record cannot be used: postgresql holds a corrupt record" in await explained(fake_service)
        await fake_service.lose(fake_service.postgresql)
        assert "and no cache has the key -> see that PostgreSQL runs" in await explained(fake_service)


async def test_an_organization_that_cannot_be_read() -> None:
    """Where it was changed since the key was read, it is read again; each outcome of that has its own words."""
    async with open_house() as fake_service:
        await fake_service.ask()
        fake_service.invalidations.apply(Change(EntityRef("organization", TENANT.id), TENANT.version + 1))
        fake_service.tenants.error = StoreCorrupt(POSTGRESQL, "the plan")
        assert "organization: its record cannot be used: postgresql" in await explained(fake_service)
        fake_service.tenants.error = StoreUnavailable(POSTGRESQL, "connection")
        assert "the organization was changed since the key was read" in await explained(fake_service)
        fake_service.tenants.error = None
        fake_service.tenants.held.clear()
        assert "organization: the organization is gone -> see the organizations" in await explained(fake_service)


async def test_a_permission_that_was_meant() -> None:
    """A key for the segment of a path that has another name is told the name that routes ask for."""
    async with open_house() as fake_service:
        changed(fake_service, permissions={"*": frozenset({"write"})})
        told = await explain_of(fake_service, names=Names()).explain(asked("/api/repots/1", key=SECRET))
        assert "the route asks for repots:read" in said(told)
        assert "probably report is meant by repots in the path" in said(told)


async def test_no_limit_and_a_public_limit() -> None:
    """Where there is no limit, that is said; a limit by address is the configuration's, wherever keys are kept."""
    async with open_house() as fake_service:
        changed(fake_service, tenant={"limits": UNLIMITED})
        told = await explain_of(fake_service).explain(asked(key=SECRET))
        assert step(told, "limits").why == "there is no limit"
        search = asked("/public/search", address="203.0.113.7")
        for _ in range(2):
            await fake_service.ask("/public/search", "", client_address="203.0.113.7", now=fake_service.now)
        assert "wait, or raise rate and burst of the route" in said(await explain_of(fake_service).explain(search))


class _Seeds:
    """A UsageStore that has counted 7 on the day; `error` is raised instead."""

    def __init__(self, error: StoreUnavailable | None = None) -> None:
        self._error = error

    async def seeds(self, wanted: Mapping[str, Sequence[Span]]) -> Mapping[str, Sequence[Seed]]:
        if self._error is not None:
            raise self._error
        return {tenant: [Seed(spans[1].field, ORGANIZATION, 7, 0, 0)] for tenant, spans in wanted.items()}


class _Counters:
    """A CounterReader of an organization of which nothing is known but its seeds."""

    async def beginning(self, asked: Spend, seeds: Sequence[Seed]) -> State:  # noqa: ARG002 - of any spend
        return State(counters={seed.field: seed.cost for seed in seeds})


async def peeked(
    fake_service: FakeService, *first: NotApplied | StoreUnavailable, seeds: _Seeds | None = None
) -> Spent:
    """The outcome of a peek at limits that first answer otherwise."""
    answers = list(first)

    class _Limits:
        async def spend(self, asked: Sequence[Spend]) -> Sequence[Spent | NotApplied | StoreUnavailable]:
            return [answers.pop(0)] if answers else await fake_service.limits.spend(asked)

    stores = {"redis": fake_service.redis, "postgresql": fake_service.postgresql}
    peek = Peek(_Limits(), _Counters(), seeds, clock=lambda: NOW, **stores)  # type: ignore[arg-type] # one method
    return (await peek.spend(unchecked_spend(replace(TENANT, limits=Limits(daily_quota=9)), KEY, 1, NOW)))[1]


async def test_counters_that_redis_does_not_have() -> None:
    """They begin with what PostgreSQL has saved; where it is away, with zero, which is marked as provisional."""
    async with open_house() as fake_service:
        spent = await peeked(fake_service, NOT_BEGUN, seeds=_Seeds())
        assert (spent.used["daily"], spent.provisional) == (7, False)
        spent = await peeked(fake_service, NOT_BEGUN)
        assert (spent.used["daily"], spent.provisional) == (0, False)
        spent = await peeked(fake_service, NOT_BEGUN, seeds=_Seeds(StoreUnavailable(POSTGRESQL, "timeout")))
        assert (spent.used["daily"], spent.provisional) == (0, True)
        await fake_service.lose(fake_service.postgresql)
        assert (await peeked(fake_service, NOT_BEGUN, seeds=_Seeds())).provisional


async def test_a_peek_with_the_windows_of_redis() -> None:
    """A store of another day is asked again with its windows, a bounded number of times."""
    async with open_house() as fake_service:
        fake_service.limits.now = NOW + 40 * 86_400
        other_day = NotApplied("window", int(fake_service.limits.now) * MICRO)
        assert not (await peeked(fake_service, other_day)).refused
        with pytest.raises(StoreUnavailable, match=r"redis is away \(clock\)"):
            await peeked(fake_service, *[other_day] * SPEND_ATTEMPTS_MAX)
        with pytest.raises(StoreUnavailable, match="busy"):
            await peeked(fake_service, StoreUnavailable(REDIS, "busy"))


async def test_counters_that_began_without_postgresql() -> None:
    """More may seem to be left than is, which is said."""
    async with open_house() as fake_service:
        explain = explain_of(fake_service, usage=cast("UsageStore", _Seeds()))
        fake_service.limits.first = [NOT_BEGUN]
        await fake_service.lose(fake_service.postgresql)
        fake_service.key_cache.held[KEY.digest] = KEY
        told = await explain.explain(asked(key=SECRET))
        assert "the counters began without PostgreSQL" in step(told, "limits").why
