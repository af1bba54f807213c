"""Leases of this worker: busy spends are served in process, from units that were taken from their limits ahead.

One call at a time asks for all leases that need it. A lease whose call failed ends by a close that is tried again,
because it says what was served in all: whatever became of the call, exactly the rest is given back.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from time import monotonic

from extauthz.aio.tasks import cancel_until_done
from extauthz.core.errors import StoreUnavailable
from extauthz.core.lease_account import Account
from extauthz.core.leases import LeaseAsk, Leased
from extauthz.core.observers import Observer
from extauthz.core.ports import LeaseStore, Mark
from extauthz.core.spend import FAILED, ROW_SIZE, Row, Spend
from extauthz.service.limits.lease_ledger import Ledger, in_process
from extauthz.service.store_breaker import StoreBreaker

LEASE_BATCH_MAX = 64  # in one call
LOOK_INTERVAL_SECONDS = 0.05
GIVE_BACK_TIMEOUT_SECONDS = 1.0  # at the end of a process


class Leases:
    """Leases of one worker: `take` serves from them, `note` finds spends that are worth one, in the background."""

    def __init__(
        self,
        limits: LeaseStore,
        *,
        keeps_usage: bool,
        redis: StoreBreaker,
        observer: Observer,
        ledger: Ledger | None = None,
    ) -> None:
        """`keeps_usage`: charges are marked, because they are saved. `ledger`: of this worker's predecessor."""
        self._limits = limits
        self._ledger = ledger or in_process()
        self._left = list(self._ledger.left())
        self._keeps_usage = keeps_usage
        self._redis = redis
        self._observer = observer
        self._open: dict[str, set[Account]] = {}  # by their owner
        self._due: dict[Account, Spend] = {}
        self._once = Account(0.0, self._ledger)  # of every spend that was asked once
        self._calling: asyncio.Task[None] | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._resting = False

    def take(self, asked: Spend) -> tuple[int, Row] | None:
        """Return the store's time (microseconds) and the row of a spend that a lease serves; None where none does."""
        account: Account | None = asked.account
        if account is None or not account.lease_id or not self._redis.up:
            return None
        found = account.serve(monotonic())
        if account.left <= account.low and not account.pending:
            self._ask(account, asked)
        return found

    def note(self, asked: Spend, at: int, row: Row) -> None:
        """Note the store's answer to a spend, `at` its time (microseconds)."""
        refused = row[0]
        if refused < 0 or asked.windows is None or asked.once or asked.operation != "spend" or self._resting:
            return
        if len(row) > ROW_SIZE:  # a lease does not count what a longer row has
            return
        now = monotonic()
        if refused:
            for other in self._open.get(asked.owner.id, ()):
                if other.refused(now):
                    self._ask(other, asked)
        account: Account | None = asked.account
        if account is None:
            asked.account = self._once
            return
        if account is self._once:
            account = asked.account = Account(now, self._ledger)
        if account.refused(now) if refused else account.answered(now, at, row):
            self._ask(account, asked)

    def rest(self) -> None:
        """Take no lease any more, and give back those that are held."""
        self._resting = True
        self._give_all_back()

    async def close_left(self) -> None:
        """Give back what a predecessor was granted and has not served; try until Redis has it."""
        while self._left:
            part = self._left[:LEASE_BATCH_MAX]
            asks = [LeaseAsk("close", each.lease_id, each.spend, each.served, 0) for each in part]
            try:
                answers = await self._redis.run(partial(self._limits.lease, asks, self._marks(asks)))
            except StoreUnavailable:
                await asyncio.sleep(LOOK_INTERVAL_SECONDS)
                continue
            failed = 0
            for each, answer in zip(part, answers, strict=True):
                if answer.row[0] == FAILED:
                    failed += 1
                    continue
                self._observer.leased("close", answer.units)
                self._ledger.end(each.place)
                self._left.remove(each)
            if failed:
                await asyncio.sleep(LOOK_INTERVAL_SECONDS)

    async def close(self) -> None:
        """Give every lease back, within GIVE_BACK_TIMEOUT_SECONDS; what remains stays charged."""
        self.rest()
        if self._calling is not None:
            await asyncio.wait({self._calling}, timeout=GIVE_BACK_TIMEOUT_SECONDS)
            await cancel_until_done([self._calling])
        if self._looking is not None:
            self._looking.cancel()

    def _give_all_back(self) -> None:
        for account in [each for accounts in self._open.values() for each in accounts]:
            if account.spend is not None and account.give_back():
                self._ask(account, account.spend)

    def _ask(self, account: Account, spend: Spend) -> None:
        self._due[account] = spend
        if self._redis.up and (self._calling is None or self._calling.done()):
            self._calling = asyncio.get_running_loop().create_task(self._call_all())

    async def _call_all(self) -> None:
        while self._due and self._redis.up:
            self._add_others()
            asked: list[tuple[Account, LeaseAsk]] = []
            for account, spend in list(self._due.items())[:LEASE_BATCH_MAX]:
                del self._due[account]
                if not account.pending and (account.lease_id or self._ledger.has_room(spend)):
                    asked.append((account, account.ask(monotonic(), spend)))
            if asked:
                await self._call(asked)

    def _add_others(self) -> None:
        """Let leases that will ask soon ask along, after those that have to, so that busy keys share a call."""
        for accounts in self._open.values():
            for account in accounts:
                if account.asks_soon and account.spend is not None:
                    self._due.setdefault(account, account.spend)

    async def _call(self, asked: Sequence[tuple[Account, LeaseAsk]]) -> None:
        asks = [ask for _, ask in asked]
        for account, ask in asked:
            self._keep(account, ask.spend.owner.id)
        results: Sequence[Leased | None] = [None] * len(asks)
        try:
            results = await self._redis.run(partial(self._limits.lease, asks, self._marks(asks)))
        except StoreUnavailable:  # the circuit breaker has reported it
            return
        finally:
            for (account, ask), result in zip(asked, results, strict=True):
                self._told(account, ask, result)

    def _told(self, account: Account, ask: LeaseAsk, result: Leased | None) -> None:
        """Take the result of a call; None: the outcome is unknown."""
        if result is None:
            account.failed()
        else:
            if result.units or ask.operation != "take":  # else no lease began
                self._observer.leased(ask.operation, result.units)
            if result.row[0] == FAILED:
                self._redis.probe_soon()
            if account.told(ask, result, monotonic()):
                self._due[account] = ask.spend
        if not account.lease_id:
            accounts = self._open[ask.spend.owner.id]
            accounts.discard(account)
            if not accounts:
                del self._open[ask.spend.owner.id]
        elif self._resting and account.give_back():
            self._due[account] = ask.spend

    def _marks(self, asks: Sequence[LeaseAsk]) -> Sequence[Mark]:
        return sorted({(ask.spend.owner.id, ask.spend.key_id) for ask in asks}) if self._keeps_usage else ()

    def _keep(self, account: Account, owner_id: str) -> None:
        accounts = self._open.setdefault(owner_id, set())
        if account not in accounts:
            accounts.add(account)
        if self._looking is None:
            self._look_later()

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(LOOK_INTERVAL_SECONDS, self._look)

    def _look(self) -> None:
        """Renew leases in use, and give back the others. While Redis is away, all are to be given back."""
        self._looking = None
        if not self._redis.up:
            self._give_all_back()
        now = monotonic()
        for account in [each for accounts in self._open.values() for each in accounts]:
            if account.look(now) and account.spend is not None:
                self._ask(account, account.spend)
        if self._open:
            self._look_later()
