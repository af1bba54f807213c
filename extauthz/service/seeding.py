"""Counters that Redis has forgotten begin with what PostgreSQL knows of them, not with zero."""

import asyncio
from collections.abc import Sequence
from time import monotonic

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import LimitStore, UsageStore
from extauthz.core.spend import Spend, spans
from extauthz.core.usage import Seed, Span
from extauthz.service.guard import Guard, end

TENANTS_AT_ONCE = 200  # in one query
TRY_AGAIN = 1.0  # seconds between two attempts to complete what began without PostgreSQL
WAITING_MAX = 10_000  # tenants whose last attempt is remembered


class Seeding:
    """Seeds tenants' counters: one at a time for each tenant, many tenants in one query.

    While PostgreSQL is away they begin with what is there, are marked so, and are completed later. `usage` None: nobody
    keeps usage, so there is nothing to begin with.
    """

    def __init__(self, limits: LimitStore, usage: UsageStore | None, *, redis: Guard, postgresql: Guard) -> None:
        self._limits = limits
        self._usage = usage
        self._redis = redis
        self._postgresql = postgresql
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._tried: dict[str, float] = {}
        self._wanted: dict[str, Sequence[Span]] = {}
        self._query: asyncio.Task[dict[str, Sequence[Seed]]] | None = None

    async def seed(self, asked: Spend) -> None:
        """Returns when the counters of a tenant are there. Raises StoreUnavailable."""
        task = self._begun(asked)
        await asyncio.wait({task})
        if task.cancelled():
            raise StoreUnavailable(self._redis.store, "deadline")
        task.result()

    def complete(self, asked: Spend) -> None:
        """What began without PostgreSQL is completed in the background, as soon as that is there."""
        tenant_id, now = asked.owner.id, monotonic()
        if self._postgresql.up and now - self._tried.get(tenant_id, -TRY_AGAIN) >= TRY_AGAIN:
            if len(self._tried) >= WAITING_MAX:
                self._tried.clear()
            self._tried[tenant_id] = now
            self._begun(asked)

    async def close(self) -> None:
        """Ends what is under way."""
        await end([*self._under_way.values(), *([self._query] if self._query else [])])

    def _begun(self, asked: Spend) -> "asyncio.Task[None]":
        tenant_id = asked.owner.id
        task = self._under_way.get(tenant_id)
        if task is None:
            task = self._under_way[tenant_id] = asyncio.create_task(self._seed(asked))
            task.add_done_callback(lambda done: self._over(tenant_id, done))
        return task

    def _over(self, tenant_id: str, task: "asyncio.Task[None]") -> None:
        del self._under_way[tenant_id]
        if not task.cancelled():
            task.exception()  # who waits for it asks; others need not know

    async def _seed(self, asked: Spend) -> None:
        tenant_id = asked.owner.id
        try:
            seeds: Sequence[Seed] | None = await self._known(asked)
        except StoreUnavailable:
            seeds = None
        await self._redis.run(lambda: self._limits.seed(tenant_id, seeds))

    async def _known(self, asked: Spend) -> Sequence[Seed]:
        """What PostgreSQL knows; who asks while a query is under way shares the next one."""
        if self._usage is None or asked.windows is None:
            return ()
        tenant_id = asked.owner.id
        self._wanted[tenant_id] = spans(asked.windows)
        while tenant_id in self._wanted:
            if self._query is None:
                self._query = asyncio.create_task(self._asked(self._usage))
                self._query.add_done_callback(self._answered)
            query = self._query
            await asyncio.wait({query})
            if query.cancelled():
                raise StoreUnavailable(self._postgresql.store, "deadline")
            if tenant_id in (answer := query.result()):
                return answer[tenant_id]
        raise StoreUnavailable(self._postgresql.store, "busy")

    def _answered(self, query: "asyncio.Task[dict[str, Sequence[Seed]]]") -> None:
        self._query = None
        if not query.cancelled():
            query.exception()

    async def _asked(self, usage: UsageStore) -> dict[str, Sequence[Seed]]:
        await asyncio.sleep(0)  # those who come in this turn of the loop go with it
        batch = {name: self._wanted.pop(name) for name in list(self._wanted)[:TENANTS_AT_ONCE]}
        found = await self._postgresql.run(lambda: usage.seeds(batch))
        return {tenant_id: found.get(tenant_id, ()) for tenant_id in batch}
