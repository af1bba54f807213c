"""Buckets and counters in Redis: many checks in one script, one round trip, never sent a second time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from extauthz.backends.redis import leases, scripts
from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.errors import translated
from extauthz.backends.redis.seeds import begin, complete
from extauthz.backends.redis.spends import SPEND, command, read_answer
from extauthz.backends.redis.usage import RedisUsage
from extauthz.core.errors import StoreUnavailable
from extauthz.core.leases import LeaseAsk, Leased
from extauthz.core.ports import Mark, SpendCall
from extauthz.core.spend import NotApplied, Spend, Spent, result_of
from extauthz.core.usage import ORGANIZATION, Seed


class RedisLimits:
    """`tenant_limits:{<tenant>}` and `address_limits:{…}`, by the clock of Redis.

    `log` is told whose counters are restored, before they are; None: they are not saved.
    """

    def __init__(
        self,
        redis_connection: RedisConnection,
        log: RedisUsage | None = None,
        *,
        script: str = SPEND,
        leasing: str = leases.LEASE,
    ) -> None:
        self._connection = redis_connection
        self._log = log
        self._script, self._leasing = scripts.Script(script), scripts.Script(leasing)

    async def connect(self) -> None:
        """Returns when calls can begin. Raises StoreUnavailable."""
        with translated():
            await self._connection.connect()

    def begin(self, asked: Sequence[Spend], marks: Sequence[Mark], call: SpendCall) -> Callable[[], None] | None:
        """Spends in one call, without waiting; see LimitStore. `marks` leave before it, in the same write."""
        wire = self._connection.wire
        if wire is None:
            return None
        keys, arguments = command(asked, wire.info.epoch)

        def answered(answer: Any) -> None:
            try:
                with translated():
                    if isinstance(answer, Exception):
                        raise answer
                    now, results = read_answer(asked, *answer)
            except StoreUnavailable as error:
                call.failed(error)
            else:
                call.answered(now, results)

        before = None
        if marks and self._log is not None:
            before = self._log.begun(wire, marks, call.unmarked)
        self._connection.operations += 1 if before is None else 2
        self._script.begin(wire, keys, arguments, answered=answered, before=before)
        return wire.leave

    async def spend(self, asked: Sequence[Spend]) -> list[Spent | NotApplied | StoreUnavailable]:
        """One result for each, in a call of its own. Raises StoreUnavailable; all outcomes are then unknown."""
        with translated():
            epoch = await self._connection.epoch()
            keys, arguments = command(asked, epoch)
            now, results = read_answer(asked, *await self._script.run_many(self._connection, keys, arguments))
            return [each if isinstance(each, StoreUnavailable) else result_of(now, each) for each in results]

    async def lease(self, asks: Sequence[LeaseAsk], marks: Sequence[Mark]) -> list[Leased]:
        """One answer for each, in one call; see LeaseStore. `marks` leave before it, in the same write."""
        with translated():
            keys, arguments = leases.command(asks, await self._connection.epoch())
            work = self._leasing.run_many(self._connection, keys, arguments)
            if marks and self._log is not None:
                _, answer = await asyncio.gather(self._log.mark(marks), work)
            else:
                answer = await work
            return leases.read_answer(*answer)

    async def seed(self, tenant_id: str, seeds: Sequence[Seed] | None) -> None:
        """Raises a tenant's counters to the seeds of its keys; None: PostgreSQL is away, they begin with what is there.

        Raises StoreUnavailable.
        """
        with translated():
            redis_connection, epoch = self._connection, await self._connection.epoch()
            work = (
                begin(redis_connection, tenant_id, epoch)
                if seeds is None
                else complete(redis_connection, tenant_id, epoch, seeds)
            )
            if self._log is None:
                await work
            else:  # the mark leaves first: a memory that was lost had marks in it, which other workers count on
                await asyncio.gather(self._log.mark([(tenant_id, ORGANIZATION)]), work)
