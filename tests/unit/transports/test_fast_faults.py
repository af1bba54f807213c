"""Faults while a check of the fast path waits for its limits: it is answered once, and charged once."""

import gc
from collections.abc import AsyncIterator

import pytest

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import REDIS
from extauthz.core.reason import Reason
from extauthz.core.spend import NotApplied, Owner
from extauthz.transports.http.denials import Denials
from extauthz.transports.http.fast_check import FastCheck
from tests.servers.serving import question
from tests.unit.service.asking import asked_at
from tests.unit.service.fakes import KEY, SECRET, open_house
from tests.unit.transports.check_listener import (
    ALLOWED,
    AMBIGUOUS,
    REFUSED,
    Door,
    all_over,
    decisions,
    held,
)

DEGRADED = b"\r\nx-extauthz-degraded: limits\r\n"


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A fast path, and a key whose records are cached."""
    async with open_house() as fake_service, Door(fake_service, fast_path=True).open() as door:
        await door.warm()
        yield door
        assert door.by_aiohttp in (1, 2)  # the first check, and that of `held`


def charged(door: Door) -> int:
    """The sum of all charges."""
    state = door.fake_service.limits.states[Owner("tenant", KEY.organization_id)]
    return state.counters["d:20270115"]


async def test_check_of_a_client_that_left_is_charged(door: Door) -> None:
    """The check is decided and counted without an answer, and nothing is left of its connection."""
    async with door.client() as client:
        gate = await held(door, client)
        before = charged(door)
    await door.has_read()
    gate.set()
    await all_over()
    assert charged(door) == before + 1
    assert door.fake_service.watch.reasons[-1] == ("envoy", Reason.ALLOW)
    async with door.client() as client:
        assert decisions(await client.ask(ALLOWED)) == ["allow"]


@pytest.mark.parametrize("reason", ["connection", "timeout"])
async def test_redis_fails(door: Door, reason: str) -> None:
    """The check passes uncharged, as configured; the answer says so."""
    door.fake_service.limits.error = StoreUnavailable(REDIS, reason)
    async with door.client() as client:
        answer = await client.ask(ALLOWED)
        assert DEGRADED in answer
        door.fake_service.limits.error = None
        assert decisions(await client.ask(AMBIGUOUS)) == ["path_ambiguous"]


async def test_an_answer_that_comes_late(door: Door) -> None:
    """It is dropped: the check was answered without it, and so is the next one of its connection."""
    async with door.client() as client:
        gate = await held(door, client)
        (call,) = door.fake_service.limiter._under_way
        call.end_late()
        assert DEGRADED in await client.answer()
        gate.set()
        await door.has_read()
        client.send(AMBIGUOUS)
        assert decisions(await client.answer()) == ["path_ambiguous"]


@pytest.mark.parametrize("why", ["window", "unseeded"])
async def test_spend_that_was_not_applied_is_repeated(door: Door, why: str) -> None:
    """The spend is repeated in a task, with the same answer and one charge."""
    async with door.client() as client:
        before, usual = charged(door), await client.ask(ALLOWED)
        door.fake_service.limits.states.clear()
        await door.warm()
        door.fake_service.limits.first.append(NotApplied("window" if why == "window" else "unseeded", 0))
        assert await client.ask(ALLOWED) == usual
        assert not door.fake_service.limits.first
        assert charged(door) == before + 1


async def test_client_that_leaves_during_the_second_attempt(door: Door) -> None:
    """The same as during the first attempt."""
    limits = door.fake_service.limits
    async with door.client() as client:
        gate = await held(door, client)
        before = charged(door)
        limits.first.append(NotApplied("window", 0))
        again = await asked_at(door.fake_service, "spend")
        gate.set()
        await limits.entered.acquire()
    again.set()
    await all_over()
    assert charged(door) == before + 1


async def test_windows_that_never_fit(door: Door) -> None:
    """After some attempts the check passes uncharged."""
    door.fake_service.limits.first += [NotApplied("window", 0)] * 4
    async with door.client() as client:
        before = charged(door)
        assert DEGRADED in await client.ask(ALLOWED)
        assert charged(door) == before


async def test_an_idle_connection_keeps_no_key(door: Door) -> None:
    """Once a check is answered, nothing of its request stays with the connection, whatever the answer was."""
    denied = question("envoy", "/api/customers/7", key=SECRET, method="POST")
    async with door.client() as client:
        for data in (ALLOWED, denied, REFUSED, AMBIGUOUS, *[ALLOWED] * 20):
            await client.ask(data)
            checks = [each for each in gc.get_objects() if type(each) is FastCheck]
            assert checks
            assert not [each for each in checks if SECRET.encode() in each._data]
        denials = [each for each in gc.get_objects() if type(each) is Denials]
        gathered = [data for each in denials for group in each._groups.values() for data, _ in group.requests]
        assert any(b"/api/customers/7" in data for data in gathered)
        assert not [data for data in gathered if SECRET.encode() in data]
        assert door.fake_service.watch.reasons[-1] == ("envoy", Reason.RATE_LIMITED)


@pytest.mark.parametrize("listener", ["envoy", "nginx", "forward"])
async def test_a_sample_lacks_nothing_but_the_credential(door: Door, listener: str) -> None:
    """Only its own header is removed, also where the credential occurs elsewhere in the request."""
    async with door.client(listener) as client:
        refused = await client.ask(question(listener, "/api/customers/7", more=b"Authorization: X\r\n"))
    assert decisions(refused) == ["no_credentials"]
    assert await door.fake_service.rejections.write()
    ((row,),) = door.fake_service.rejected.batches.values()
    assert (row.group.decision, row.times) == ("no_credentials", 1)
    assert [(sample.method, sample.path) for sample in row.samples] == [("GET", "/api/customers/7")]
