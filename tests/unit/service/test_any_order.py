"""Readers, changes, messages, renewals and a Redis that loses data, in any order: no answer precedes a change."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

import pytest

from extauthz.core.changes import EVERYTHING, Change, EntityRef
from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.keys import ApiKey
from tests.unit.service.asking import pack_all
from tests.unit.service.fakes import KEY, NEW_DIGEST, NOW, FakeService, open_house

ASKED = Credential((NEW_DIGEST,))
STEPS = [*["ask"] * 6, "change", "hear", "hear", "writer", "redis", "renew", "lost", "pack"]
LATER = NOW + 1e6
FIRST = 100  # the number of the first transaction


class Anything:
    """A FakeService whose calls take a few turns of the loop; `expires_at` counts the changes of the one key."""

    def __init__(self, fake_service: FakeService, chance: random.Random) -> None:
        self.fake_service, self.chance = fake_service, chance
        self.count = self.heard = 0
        self.writer: int | None = None  # the number of a transaction elsewhere that stays open
        self.messages: list[int] = []
        self.asking: set[asyncio.Task[None]] = set()
        self.answers = 0
        self._find, self._get, self._put = (
            fake_service.keys.find,
            fake_service.key_cache.find,
            fake_service.key_cache.put,
        )
        fake_service.keys.find = self.find  # type: ignore[method-assign]
        fake_service.key_cache.find = self.get  # type: ignore[method-assign]
        fake_service.key_cache.put = self.put  # type: ignore[method-assign]

    async def dawdle(self) -> None:
        for _ in range(self.chance.choice((0, 1, 2, 3, 40))):
            await asyncio.sleep(0)

    async def find(self, asked: Sequence[Credential], now: float) -> list[ApiKey | StoreCorrupt | None]:
        await self.dawdle()
        number = FIRST + self.count if self.writer is None else self.writer
        ended = None if self.count % 3 else NOW  # every third change ends it
        key = replace(KEY, expires_at=LATER + self.count, disabled_at=ended, version=number, loaded_at=now)
        found = [key for _ in asked]
        await self.dawdle()
        return list(found)

    async def get(
        self, asked: Sequence[Credential], now: float, *, ended: bool = False
    ) -> list[ApiKey | StoreCorrupt | None]:
        found = await self._get(asked, now, ended=ended)
        await self.dawdle()
        return found

    async def put(self, records: Sequence[ApiKey], now: float) -> None:
        await self.dawdle()
        await self._put(records, now)

    async def ask(self, heard: int) -> None:
        try:
            found = await self.fake_service.lookup.keys.read(ASKED, self.fake_service.now, monotonic() + 60)
        except StoreUnavailable:
            return  # it changed faster than it could be read
        assert found is not None
        assert found.expires_at is not None
        assert found.expires_at >= LATER + heard
        self.answers += 1

    async def step(self) -> None:
        for _ in range(self.chance.choice((0, 1, 3, 20))):
            await asyncio.sleep(0)
        match self.chance.choice(STEPS):
            case "ask":
                self.asking.add(asyncio.create_task(self.ask(self.heard)))
            case "change":
                self.messages.append(FIRST + self.count)
                self.count += 1
            case "hear" if self.messages:
                number = self.messages.pop(0)
                self.fake_service.invalidations.apply(Change(EntityRef("api_key", KEY.id), number + 1))
                self.heard = number - FIRST + 1
            case "lost":
                self.messages.clear()
                self.fake_service.invalidations.apply(Change(EVERYTHING, FIRST + self.count))
                self.heard = self.count
                self.fake_service.freshness.flowing(True)
            case "writer":
                self.writer = FIRST + self.count if self.writer is None else None
            case "pack":
                pack_all(self.fake_service.lookup.keys.local)
            case "redis":
                self.fake_service.key_cache.held.clear()
            case "renew":
                self.fake_service.now += 40
                self.asking.add(asyncio.create_task(self.fake_service.lookup.keys.renewal.renew_due()))


@pytest.mark.parametrize("seed", range(40))
async def test_answers_are_not_older_than_a_received_change(seed: int) -> None:
    """A check after a message was received gets the record of the message, or a newer one."""
    async with open_house() as fake_service:
        anything = Anything(fake_service, random.Random(seed))
        for _ in range(150):
            await anything.step()
        await asyncio.gather(*anything.asking)
        assert anything.answers > 20
        assert {layer for _, layer in fake_service.watch.reads} >= {"process", None}
