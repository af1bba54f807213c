"""Leases of real workers: units that workers serve ahead of Redis never exceed a limit, and are charged exactly."""

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from extauthz.backends.redis.keyspace import tenant_limits
from extauthz.backends.redis.layout import by_name
from tests.servers.forking import family
from tests.servers.management_client import ManagementClient
from tests.servers.process import Service, listening, settings
from tests.servers.raw_http import Answer, Wire, wire
from tests.servers.serving import PATIENT, question
from tests.servers.waiting import until

LEASES = PATIENT | {"RATE_LIMIT_LEASES": "auto"}
PLENTY: dict[str, object] = {"rate": "1/d", "burst": 10**6, "daily_quota": 10**6, "monthly_quota": 10**7}
CONNECTIONS = 16
LEFT = re.compile('"daily";r=([0-9]+)')


class Customer:
    """An organization with one key, the decisions it got, and what Redis has counted for it."""

    def __init__(self, redis: Redis, organization_id: str, key: str) -> None:
        self.redis = redis
        self.id = organization_id
        self.key = key
        self.answers: Counter[str] = Counter()  # by decision; empty where the connection ended

    async def ask(self, connection: Wire, times: int) -> None:
        """So many checks, one after the other."""
        for _ in range(times):
            try:
                answer = await connection.ask(question("envoy", "/api", key=self.key))
            except (ConnectionError, asyncio.IncompleteReadError):
                self.answers[""] += 1
                return
            self.answers[answer.decision] += 1

    async def ask_at_once(self, service: Service, times: int) -> None:
        """So many checks on each of some connections."""
        port = int((await service.address("envoy")).rpartition(":")[2])
        async with AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(wire(port)) for _ in range(CONNECTIONS)]
            await asyncio.gather(*(self.ask(each, times) for each in wires))

    async def fields(self) -> dict[str, str]:
        """Its hash."""
        found = await self.redis.hgetall(tenant_limits(self.id))
        return by_name({name.decode(): value for name, value in found.items()})  # type: ignore[union-attr, misc]

    async def nothing_leased(self) -> bool:
        """Whether all units are given back."""
        return "leases" not in await self.fields()

    async def counted(self) -> tuple[int, int]:
        """The day's cost of the organization, and the requests of its key."""
        fields = await self.fields()
        day = f"d:{fields['days'][-8:]}"
        return int(fields[day]), next(int(value.split()[1]) for name, value in fields.items() if name[:11] == f"{day}:")


async def customer(operator: ManagementClient, plan: dict[str, object]) -> Customer:
    """An organization on a plan of its own."""
    await operator.tenants.create_plan("busy", plan)
    organization = await operator.tenants.create_organization("acme", "busy")
    return Customer(operator.redis, organization.id, (await operator.new_key("acme"))[1])


def workers_of(service: Service) -> Sequence[int]:
    return family(service.process.pid)[1:]


UNITS = ("granted", "returned")


@pytest.mark.parametrize("workers", ["1", "2", "4"])
async def test_charged_is_what_was_served(
    operator: ManagementClient, database: str, redis_url: str, workers: str
) -> None:
    """With many workers that lease at once, counters equal the answers once all units are given back."""
    acme = await customer(operator, PLENTY)
    async with listening(settings(database, redis_url, **LEASES), "--workers", workers) as service:
        await acme.ask_at_once(service, 60)
        await until(acme.nothing_leased)
        asked = 60 * CONNECTIONS

        async def all_told() -> bool:
            """Whether workers have counted the units that they gave back, which follows Redis's count."""
            metrics = await service.metrics()
            granted, returned = (metrics[f'extauthz_lease_units_total{{what="{what}"}}'] for what in UNITS)
            return 0 < granted - returned <= asked

        await until(all_told)
    assert acme.answers == {"allow": asked}
    assert await acme.counted() == (asked, asked)


async def test_a_quota_is_used_up_to_the_last_unit(operator: ManagementClient, database: str, redis_url: str) -> None:
    """Of twice as many requests as a quota has, exactly its number is allowed in the end."""
    quota = 600
    acme = await customer(operator, PLENTY | {"daily_quota": quota})
    async with listening(settings(database, redis_url, **LEASES), "--workers", "4") as service:
        await acme.ask_at_once(service, 2 * quota // CONNECTIONS)
        await until(acme.nothing_leased)
        await acme.ask_at_once(service, 1)
    assert acme.answers["allow"] == quota
    assert set(acme.answers) == {"allow", "daily_quota_exceeded"}
    assert await acme.counted() == (quota, quota)


async def test_headers_never_exceed_the_balance(operator: ManagementClient, database: str, redis_url: str) -> None:
    """While units are leased, each answer has the balance or less; once they are given back, exactly that."""
    acme = await customer(operator, PLENTY)
    async with listening(settings(database, redis_url, **LEASES)) as service:
        port = int((await service.address("envoy")).rpartition(":")[2])
        async with wire(port) as connection:
            answers = [await connection.ask(question("envoy", "/api", key=acme.key)) for _ in range(120)]
            await until(acme.nothing_leased)
            last = await connection.ask(question("envoy", "/api", key=acme.key))
    for number, answer in enumerate(answers, start=1):
        assert 10**6 - 10**4 - number <= said(answer) <= 10**6 - number
    assert said(last) == 10**6 - 121


def said(answer: Answer) -> int:
    """What is left of the day, by the headers of an answer."""
    return int(LEFT.findall(answer["ratelimit"])[0])


async def test_a_killed_worker_loses_no_units(operator: ManagementClient, database: str, redis_url: str) -> None:
    """The worker that replaces it gives back what was not served: charges equal the answers, or nearly."""
    acme = await customer(operator, PLENTY)
    async with listening(settings(database, redis_url, **LEASES), "--workers", "2") as service:
        load = asyncio.create_task(acme.ask_at_once(service, 150))
        await until(lambda: _leased(acme))
        os.kill(workers_of(service)[0], signal.SIGKILL)
        await load
        await until(acme.nothing_leased, 30)
        cost, requests = await acme.counted()
    allowed, unknown = acme.answers["allow"], acme.answers[""]
    assert set(acme.answers) <= {"allow", ""}
    assert allowed <= requests == cost <= allowed + unknown


async def _leased(acme: Customer) -> bool:
    return not await acme.nothing_leased()


async def test_a_stop_gives_everything_back(operator: ManagementClient, database: str, redis_url: str) -> None:
    """At a stop workers give back what they hold before usage is saved for the last time."""
    acme = await customer(operator, PLENTY)
    async with listening(settings(database, redis_url, **LEASES), "--workers", "2") as service:
        await acme.ask_at_once(service, 40)
        assert await service.end() == 0
    assert await acme.nothing_leased()
    asked = 40 * CONNECTIONS
    assert await acme.counted() == (asked, asked)
    (saved,) = await operator.rows("SELECT sum(cost)::int AS cost, sum(allowed)::int AS allowed FROM usage_daily")
    assert saved == {"cost": asked, "allowed": asked}
