"""How tests of the cache ask the house of fakes: for keys, many keys, and at a gate."""

import asyncio
from dataclasses import replace
from time import monotonic
from typing import Any

from extauthz.core.changes import Thing
from extauthz.core.credentials import Credential
from extauthz.core.keys import ApiKey
from extauthz.service.local import Local
from tests.unit.service.fakes import KEY, KEY_FORMAT, TENANT, House, LimitGate

KEY_ITSELF, ORGANIZATION = Thing("api_key", KEY.id), Thing("organization", TENANT.id)
OTHER = f"Bearer {KEY_FORMAT.issue(bytes(20))}"
FAR = 60.0


async def asked_at(house: House, gate: str) -> asyncio.Event:
    """Makes PostgreSQL (`find`) or Redis (`put`, `spend`) wait before it answers, or writes, until the event is set."""
    if gate == "spend":
        house.limits.gate = LimitGate()
        return house.limits.gate
    store = house.key_cache if gate == "put" else house.keys
    store.gates[gate] = asyncio.Event()
    return store.gates[gate]


async def read(house: House, *digests: str) -> list[ApiKey | None]:
    """Reads many keys at once, as checks do."""
    keys = house.lookup.keys
    return list(
        await asyncio.gather(*(keys.read(Credential((digest,)), house.now, monotonic() + FAR) for digest in digests))
    )


def many(house: House, count: int) -> list[str]:
    """Stores keys; their digests."""
    digests = [f"{number:064x}" for number in range(count)]
    for digest in digests:
        house.keys.held[digest] = replace(KEY, id=digest, digest=digest)
    return digests


async def back(house: House) -> None:
    """PostgreSQL is there again, and known to be."""
    house.away.clear()
    async with asyncio.timeout(5):
        await house.watch.back.wait()


def pack_all(local: Local[Any, Any]) -> None:
    """Packs all that is in use, as if as many others had come since."""
    held = local.held
    while held._entries:
        held._packed.put(*held._entries.popitem())
