"""Bursts of requests at one instant: no input of a client causes a 5xx, and good keys are not refused for it."""

import asyncio
from collections import Counter

import pytest

from tests.servers.management_client import KEY_FORMAT, NO_LIMITS, ManagementClient
from tests.servers.raw_http import wire
from tests.servers.serving import question, serving

UNKNOWN, GOOD = 400, 40


async def _asked(port: int, request: bytes, go: asyncio.Event, connected: asyncio.Semaphore) -> int:
    async with wire(port) as connection:
        connected.release()
        await go.wait()
        return (await connection.ask(request)).status


@pytest.mark.parametrize(
    ("listener", "environment"),
    [
        ("envoy", {}),
        ("envoy", {"API_KEY_CACHE_ENABLED": "false"}),
        ("usage", {}),
    ],
)
async def test_unknown_keys_at_one_instant(
    database: str, redis_url: str, operator: ManagementClient, listener: str, environment: dict[str, str]
) -> None:
    """Hundreds of distinct ones beside good keys that were not used yet: 401 for each of the first, 200 for the others.

    With the budgets of the defaults, with and without a cache, and where callers ask for their own usage.
    """
    await operator.tenants.create_plan("plenty", NO_LIMITS)
    await operator.tenants.create_organization("acme", "plenty")
    good = [(await operator.new_key("acme"))[1] for _ in range(GOOD)]
    unknown = [KEY_FORMAT.issue(number.to_bytes(20)) for number in range(UNKNOWN)]
    requests = [
        question("envoy", "/usage" if listener == "usage" else "/", key=key)
        for place in range(GOOD)
        for key in (*unknown[place::GOOD], good[place])
    ]
    async with serving(database, redis_url, **environment) as service:
        go, connected = asyncio.Event(), asyncio.Semaphore(0)
        asking = [asyncio.create_task(_asked(service.ports[listener], each, go, connected)) for each in requests]
        for _ in asking:
            await connected.acquire()
        go.set()
        assert Counter(await asyncio.gather(*asking)) == {401: UNKNOWN, 200: GOOD}
        assert service.value("extauthz_degraded", store="postgresql") == 0
