"""How tests of the cache ask a FakeService: for keys, for many keys, and with stores that wait at a gate."""

import asyncio
from dataclasses import replace
from time import monotonic
from typing import Any

from extauthz.core.changes import EntityRef
from extauthz.core.credentials import Credential
from extauthz.core.keys import ApiKey
from extauthz.service.directory.local_cache import LocalCache
from tests.unit.service.fakes import KEY, KEY_FORMAT, TENANT, FakeService, LimitGate

KEY_ITSELF, ORGANIZATION = EntityRef("api_key", KEY.id), EntityRef("organization", TENANT.id)
OTHER = f"Bearer {KEY_FORMAT.issue(bytes(20))}"
FAR = 60.0


async def asked_at(fake_service: FakeService, gate: str) -> asyncio.Event:
    """Makes PostgreSQL (`find`) or Redis (`put`, `spend`) wait before it answers, or writes, until the event is set."""
    if gate == "spend":
        fake_service.limits.gate = LimitGate()
        return fake_service.limits.gate
    store = fake_service.key_cache if gate == "put" else fake_service.keys
    store.gates[gate] = asyncio.Event()
    return store.gates[gate]


async def read(fake_service: FakeService, *digests: str) -> list[ApiKey | None]:
    """Reads many keys at once, as checks do."""
    keys = fake_service.lookup.keys
    return list(
        await asyncio.gather(
            *(keys.read(Credential((digest,)), fake_service.now, monotonic() + FAR) for digest in digests)
        )
    )


def many(fake_service: FakeService, count: int) -> list[str]:
    """Stores keys; their digests."""
    digests = [f"{number:064x}" for number in range(count)]
    for digest in digests:
        fake_service.keys.held[digest] = replace(KEY, id=digest, digest=digest)
    return digests


async def back(fake_service: FakeService) -> None:
    """Returns when PostgreSQL is back and was probed."""
    fake_service.away.clear()
    async with asyncio.timeout(5):
        await fake_service.watch.back.wait()


def end_refusals(local: LocalCache[Any, Any]) -> None:
    """Lets all refusals expire."""
    local.refused._until.clear()


def pack_all(local: LocalCache[Any, Any]) -> None:
    """Packs all records in use, as if as many others had been used since."""
    held = local.held
    while held._entries:
        held._packed.put(*held._entries.popitem())
