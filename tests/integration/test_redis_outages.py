"""A real Redis that hangs, slows down, breaks off, refuses or sends forged answers, behind a circuit breaker."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
from redis.asyncio import Redis

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.backends.redis.connection import MAX_CONCURRENT_CALLS, RedisConnection, open_connection
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.records import RedisKeyCache
from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.ports import REDIS
from extauthz.core.spend import Spend, Spent, build_spend
from extauthz.core.tenants import Tenant
from extauthz.demo.redis import Redis as Server
from extauthz.service.store_breaker import store_breaker
from tests.servers.fixtures import keep_our_loop_busy
from tests.servers.hurting_proxy import HurtingProxy
from tests.servers.management_client import text
from tests.servers.recording_observer import RecordingObserver
from tests.servers.shared_cache import cached

TIMEOUT = 0.1
SLACK = 0.4  # seconds that a busy machine may add
FAR = 10.0
LIMITS = Limits(Rate(1000, 1), 1000, 10_000, None)
TENANT = Tenant("acme", "gold", "active", LIMITS, 1_800_000_000.0, 7, "p1")
KEY = ApiKey("k1", "acme", {}, None, None, None, 1_800_000_000.0, 7, TENANT, "ab" * 32)
ASKED = Credential(("ab" * 32,))


class GuardedRedis:
    """Limits and keys in Redis, behind a hurting proxy and a circuit breaker with the timeouts of the service."""

    def __init__(self, client: RedisConnection, direct: Redis, proxy: HurtingProxy) -> None:
        self.proxy = proxy
        self.direct = direct
        self.recorder = RecordingObserver()
        self.limits = RedisLimits(client)
        self.keys = RedisKeyCache(client, ttl=120)
        self.guard = store_breaker(
            REDIS,
            policy=CallPolicy(TIMEOUT, max_concurrency=MAX_CONCURRENT_CALLS, cancel=True),
            probe=client.probe,
            observer=self.recorder,
        )

    async def spend(self) -> Spent:
        """One token of a tenant with plenty."""
        asked = build_spend(TENANT, KEY, 1, time.time())
        assert isinstance(asked, Spend)
        (spent,) = await self.guard.run(lambda: self.limits.spend([asked]), time.monotonic() + FAR)
        assert isinstance(spent, Spent)
        return spent

    async def refused(self) -> tuple[str, float]:
        """Why a spend could not be made, and how many seconds that took."""
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable) as away:
            await self.spend()
        return away.value.reason, time.monotonic() - begun

    async def charged(self) -> int:
        """The charged cost, as Redis has it."""
        fields = await self.direct.hgetall("tenant_limits:{acme}")
        return sum(int(value) for name, value in fields.items() if re.fullmatch("d:[0-9]+", text(name)))

    async def back(self) -> None:
        """Waits until the circuit breaker is closed again."""
        await self.recorder.until(lambda: self.guard.up)


@pytest.fixture
async def guarded(redis_server: Server, redis: Redis) -> AsyncIterator[GuardedRedis]:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(HurtingProxy("127.0.0.1", redis_server.port))
        client = await stack.enter_async_context(open_connection(f"redis://127.0.0.1:{proxy.port}/0"))
        guarded = GuardedRedis(client, redis, proxy)
        stack.push_async_callback(guarded.guard.close)
        await guarded.guard.start()
        await guarded.limits.seed("acme", ())
        assert (await guarded.spend()).used["daily"] == 1
        guarded.recorder.clear()
        yield guarded


async def test_a_redis_that_hangs_is_waited_for_once(guarded: GuardedRedis) -> None:
    """One call waits its timeout, the next are refused at once; a sent command is charged once; Redis recovers."""
    guarded.proxy.swallow = True
    reason, seconds = await guarded.refused()
    assert reason == "timeout"
    assert TIMEOUT <= seconds < TIMEOUT + SLACK
    for _ in range(20):
        reason, seconds = await guarded.refused()
        assert reason == "down"
        assert seconds < TIMEOUT
    assert guarded.recorder.changes == [(REDIS, False, "timeout")]
    assert await guarded.charged() == 2
    guarded.proxy.swallow = False
    await guarded.back()
    assert guarded.recorder.changes == [(REDIS, False, "timeout"), (REDIS, True, "")]
    assert (await guarded.spend()).used["daily"] == 3


async def test_a_slow_answer_is_neither_waited_for_nor_asked_for_again(guarded: GuardedRedis) -> None:
    """A script whose answer is late has run: it is not sent a second time, and no other call gets its answer."""
    await asyncio.gather(*(guarded.spend() for _ in range(10)))
    guarded.proxy.delay = 3 * TIMEOUT
    reasons = {reason for reason, _ in await asyncio.gather(*(guarded.refused() for _ in range(10)))}
    assert reasons == {"timeout"}
    guarded.proxy.delay = 0
    await guarded.back()
    charged = await guarded.charged()
    assert charged == 21
    for number in range(1, 30):
        assert (await guarded.spend()).used["daily"] == charged + number
    assert guarded.recorder.changes == [(REDIS, False, "timeout"), (REDIS, True, "")]


async def test_an_answer_within_the_timeout_is_used(guarded: GuardedRedis) -> None:
    """A slow server is not away: an answer within the timeout is used."""
    guarded.proxy.delay = 0.05
    assert [(await guarded.spend()).used["daily"] for _ in range(3)] == [2, 3, 4]
    assert not guarded.recorder.failures


async def test_a_connection_cut_in_the_middle_charges_once(guarded: GuardedRedis) -> None:
    """The script has run, its answer is lost: away, at once, and never sent again."""
    guarded.proxy.swallow = True
    call = asyncio.create_task(guarded.refused())
    await guarded.proxy.swallowed.wait()
    guarded.proxy.cut()
    reason, seconds = await call
    assert reason == "connection"
    assert seconds < TIMEOUT
    guarded.proxy.swallow = False
    await guarded.back()
    assert await guarded.charged() == 2
    assert (await guarded.spend()).used["daily"] == 3


async def test_an_idle_connection_that_was_cut_is_replaced(guarded: GuardedRedis) -> None:
    """A connection that ended while idle is replaced; if that is seen too late, at most one call is charged."""
    for _ in range(5):
        before = await guarded.charged()
        guarded.proxy.cut()
        try:
            await guarded.spend()
        except StoreUnavailable:
            await guarded.back()
        assert await guarded.charged() <= before + 1
    assert (await guarded.spend()).used["daily"] == await guarded.charged()


async def test_a_redis_that_refuses_is_away_at_once(guarded: GuardedRedis) -> None:
    """Where no server listens no call waits, and a server that listens again is noticed."""
    await guarded.proxy.refuse()
    reason, seconds = await guarded.refused()
    assert reason == "connection"
    assert seconds < TIMEOUT
    await guarded.proxy.accept()
    await guarded.back()
    assert (await guarded.spend()).used["daily"] == 2


STRAYS = [
    b"+OK\r\n",
    b":424242\r\n",
    b"$-1\r\n",
    b"$6\r\nsesame\r\n",
    b"-ERR sesame\r\n",
    b"*8\r\n:0\r\n:1\r\n:424242\r\n:0\r\n:424242\r\n:2\r\n:424242\r\n:2\r\n",
    b"*8\r\n:0\r\n:1\r\n",
    b"$1000\r\nsesame",
    b">2\r\n+invalidate\r\n*0\r\n",
    b"\r\n",
    b"\x00\xff sesame",
    b"+PONG\r\n" * 50,
]


@pytest.mark.parametrize("stray", STRAYS)
async def test_stray_bytes_are_never_an_answer(guarded: GuardedRedis, stray: bytes) -> None:
    """What arrives unasked on an idle connection is thrown away with it: the next answer is the right one, or none."""
    guarded.proxy.inject(stray)
    before = await guarded.charged()  # takes longer than the stray
    try:
        assert (await guarded.spend()).used["daily"] == before + 1
    except StoreUnavailable:
        await guarded.back()
    charged = await guarded.charged()
    assert charged <= before + 1
    for number in range(1, 4):
        assert (await guarded.spend()).used["daily"] == charged + number


async def test_a_stray_record_admits_no_request(guarded: GuardedRedis) -> None:
    """A forged record of another key on an idle connection is not taken for the record that was asked for."""
    key = ApiKey("k1", "acme", {"*": frozenset({"read"})}, None, None, None, TENANT.loaded_at, 7, TENANT, "00" * 32)
    record = json.dumps(key.to_record()).encode()
    guarded.proxy.inject(b"$%d\r\n%s\r\n" % (len(record), record))
    await guarded.charged()  # the stray record is there before the next call
    for _ in range(3):
        try:
            call = partial(cached, guarded.keys, ASKED, TENANT.loaded_at)
            found = await guarded.guard.run(call, time.monotonic() + FAR)
        except StoreUnavailable:
            await guarded.back()
        else:
            assert found is None


async def test_an_answer_to_a_cancelled_call_reaches_no_other(guarded: GuardedRedis) -> None:
    """Calls that are cancelled in the middle, however often, leave no answer behind for others."""
    for _ in range(10):
        calls = [asyncio.create_task(guarded.spend()) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    used = [(await guarded.spend()).used["daily"] for _ in range(5)]
    assert used == list(range(used[0], used[0] + 5))
    assert used[-1] == await guarded.charged()
    assert not guarded.recorder.failures


@pytest.mark.parametrize("steps", range(6))
async def test_a_blocked_event_loop_is_not_an_outage(redis_url: str, steps: int) -> None:
    """While the event loop was blocked the answer has come, or the command could not be sent: neither is an outage."""
    redis = RedisConnection(redis_url)
    recorder = RecordingObserver()
    policy = CallPolicy(0.025, max_concurrency=MAX_CONCURRENT_CALLS, cancel=True)
    guard = store_breaker(REDIS, policy=policy, probe=redis.probe, observer=recorder)
    await guard.start()
    asked = build_spend(TENANT, KEY, 1, time.time())
    assert isinstance(asked, Spend)
    limits = RedisLimits(redis)
    await limits.seed("acme", ())
    await limits.spend([asked])
    recorder.clear()
    blocking = asyncio.create_task(keep_our_loop_busy(3 * TIMEOUT, after=steps))
    (spent,) = await guard.run(lambda: limits.spend([asked]), time.monotonic() + FAR)
    await blocking
    assert isinstance(spent, Spent)
    assert spent.used["daily"] == 2
    assert not recorder.failures
    assert not recorder.changes
    await guard.close()
    await redis.close()
