"""Fences in Redis, which keep outdated records from all processes, also from those without messages."""

import asyncio
from collections.abc import Sequence

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.commands import Commands
from extauthz.backends.redis.errors import translated
from extauthz.core.changes import Change

_FENCE = scripts.Script(scripts.read("fence"))


class RedisInvalidations:
    """`cache_fence:<kind>:<id>` for `seconds`: as long as an older record can be in Redis."""

    def __init__(self, client: Commands, *, seconds: int) -> None:
        self._client = client
        self._seconds = seconds

    async def raise_all(self, changes: Sequence[Change]) -> None:
        """From now on older records of these things are not returned. Raises StoreUnavailable."""
        with translated():
            await asyncio.gather(
                *(
                    _FENCE.run(self._client, keyspace.cache_fence(thing), fence, self._seconds * 1000)
                    for thing, fence in changes
                )
            )
