"""Workers that lease from one store, driven by hypothesis: messages late and lost, workers killed, clocks that step.

What is served is compared with a bucket that is asked for each request, and with every quota, to the unit.
"""

from dataclasses import dataclass, field, replace
from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from extauthz.core import lease_steps
from extauthz.core.calendar import UTC_CALENDAR
from extauthz.core.lease_account import Account
from extauthz.core.leases import ENDED, HOLD, SHARE, LeaseAsk, Leased
from extauthz.core.limit_kinds import QUOTAS
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.spend import MICRO, Owner, Spend, Spent, day_field, month_field, result_of
from extauthz.core.token_bucket import State, Step, spend
from tests.unit.service.fakes import row_of

START = 1_800_057_599 * MICRO  # the last second of a day
TENANT = Owner("tenant", "org-1")
LIMITS = (
    Limits(Rate(500, 1), 250),
    Limits(Rate(100, 1), 400, 1500),
    Limits(Rate(7, 60), 600, None, 2000),
    Limits(None, None, 700, 1200),
    UNLIMITED,
)
OF_KEYS = (UNLIMITED, Limits(Rate(300, 1), 200, 2000), Limits(None, None, 500))
KINDS = (("key-1", 1), ("key-1", 2), ("key:2 d", 1), ("key-1", 40))  # key and cost of what is asked
WORKERS = 2

workers, kinds = st.integers(0, WORKERS - 1), st.integers(0, len(KINDS) - 1)
elapses = st.sampled_from([1, 10_000, 50_000, 100_000, 500_000, HOLD, 2 * HOLD]) | st.integers(0, 2 * MICRO)
steps = st.sampled_from([-1, 1]).flatmap(
    lambda sign: st.sampled_from([MICRO, HOLD + 1, 3600 * MICRO]).map(sign.__mul__)
)


class Book:
    """Counts ids up, and keeps nothing."""

    def __init__(self) -> None:
        self.served = [0]
        self._ids = count(1)

    def begin(self, _: Spend) -> tuple[str, int]:
        return f"{next(self._ids):x}", 0

    def end(self, place: int) -> None:
        """Does nothing: no record of the lease is kept."""


@dataclass
class Call:
    """A message of a worker; it has an answer once the store has processed it."""

    kind: int
    ask: LeaseAsk
    answer: Leased | None = None


@dataclass
class Worker:
    """The leases of one process."""

    spends: list[Spend]
    accounts: list[Account]
    calls: list[Call] = field(default_factory=list)


class Leasing(RuleBasedStateMachine):
    """One organization and its store; the reference arithmetic gives the store's answers."""

    @initialize(limits=st.sampled_from(LIMITS), own=st.sampled_from(OF_KEYS))
    def begin(self, limits: Limits, own: Limits) -> None:
        """An organization whose first key may have limits of its own."""
        self.now, self.real = START, 0
        self.state, self.reference = State(), State()
        self.limits, self.own = limits, {"key-1": own, "key:2 d": UNLIMITED}
        self.served: dict[str, int] = {}  # cost, by the name of a counter
        self.lost = 0  # tokens that only a dead worker could have given back
        self.stepped_at = -HOLD  # when the store's clock last stepped forward, in real time
        self.stepped_back = False
        self.book = Book()
        self.workers = [self._worker() for _ in range(WORKERS)]

    def spend_of(self, kind: int) -> Spend:
        """What a request asks."""
        key, cost = KINDS[kind]
        asked = Spend(TENANT, cost, self.limits, UTC_CALENDAR, key_id=key, key_limits=self.own[key])
        return asked.at(self.now / MICRO)

    def _worker(self) -> Worker:
        kinds = range(len(KINDS))
        return Worker([self.spend_of(kind) for kind in kinds], [self._account() for _ in kinds])

    def _account(self) -> Account:
        return Account(self.real / MICRO, self.book)

    # what a store does; another store does it as well

    def spend(self, asked: Spend) -> Spent:
        """A request that asks the store."""
        spent = spend(self.state, asked, self.now)
        assert isinstance(spent, Spent)
        return spent

    def lease(self, ask: LeaseAsk) -> Leased:
        """A worker's message."""
        return lease_steps.lease(self.state, ask, self.now)

    # what happens

    @rule(worker=workers, kind=kinds, times=st.sampled_from([1, 3, 9, 20]))
    def request(self, worker: int, kind: int, times: int) -> None:
        """So many requests at once."""
        for _ in range(times):
            self._request(self.workers[worker], kind)

    def _request(self, worker: Worker, kind: int) -> None:
        account = worker.accounts[kind]
        if self.spend_of(kind).windows != worker.spends[kind].windows:  # remembered until its day is over
            self._give_back(worker, kind)
            account = worker.accounts[kind]
        found = account.serve(self.real / MICRO)
        if found is not None:
            self._admitted(worker.spends[kind], found[1][2] - 1, found[1][3] - 1)
            spent = result_of(*found)
            assert isinstance(spent, Spent)
            assert not spent.refused
            if account.left <= account.low and not account.pending:
                self._send(worker, kind)
            return
        spent = self.spend(self.spend_of(kind))
        self._touched(self.spend_of(kind))
        if not spent.refused:
            self._admitted(self.spend_of(kind), spent.row[2] - 1, spent.row[3] - 1)
        else:
            self._may_refuse(self.spend_of(kind), spent)
        now, row = self.real / MICRO, row_of(spent)
        assert isinstance(row, tuple)
        if account.refused(now) if spent.refused else account.answered(now, spent.now, row):
            self._send(worker, kind)

    @rule(worker=workers, kind=kinds, calls=st.integers(1, 3))
    def exchange(self, worker: int, kind: int, calls: int) -> None:
        """Requests, and messages that arrive at once."""
        for _ in range(calls):
            self.request(worker, kind, 9)
            self.deliver(worker)

    @rule(worker=workers)
    def look(self, worker: int) -> None:
        """A worker checks which leases to renew or give back."""
        for kind, account in enumerate(self.workers[worker].accounts):
            if account.look(self.real / MICRO):
                self._send(self.workers[worker], kind)

    @rule(worker=workers)
    def arrive(self, worker: int) -> None:
        """Messages reach the store, in order; their answers are under way."""
        for call in self.workers[worker].calls:
            if call.answer is None:
                call.answer = self.lease(call.ask)
                self._touched(call.ask.spend)

    @rule(worker=workers)
    def deliver(self, worker: int) -> None:
        """Messages and answers arrive; so do messages that they cause."""
        while self.workers[worker].calls:
            self.arrive(worker)
            calls, self.workers[worker].calls = self.workers[worker].calls, []
            for call in calls:
                assert call.answer is not None
                if self.workers[worker].accounts[call.kind].told(call.ask, call.answer, self.real / MICRO):
                    self._send(self.workers[worker], call.kind)

    @rule(worker=workers)
    def lose(self, worker: int) -> None:
        """Messages, or answers to them, are lost."""
        for call in self.workers[worker].calls:
            self.workers[worker].accounts[call.kind].failed()
        self.workers[worker].calls = []

    @rule(elapsed=elapses)
    def wait(self, elapsed: int) -> None:
        """Time goes on."""
        self.now += elapsed
        self.real += elapsed

    @rule(by=steps)
    def step(self, by: int) -> None:
        """The store's clock is set; forward not again before what is served by its leases is over."""
        if by > 0 and self.real < self.stepped_at + HOLD:
            return
        self.stepped_back = self.stepped_back or by < 0
        self.stepped_at = self.real if by > 0 else self.stepped_at
        self.now += by

    @rule(worker=workers)
    def kill(self, worker: int) -> None:
        """A worker dies with its messages under way, and another one takes its place."""
        self.arrive(worker)
        mine = {account.lease_id: account for account in self.workers[worker].accounts if account.lease_id}
        for lease_id, account in mine.items():
            lease = self.state.leases.get(lease_id) or self.state.lapsed.get(lease_id)
            if lease is not None:
                self.lost += (lease.granted - account.served) * lease.cost
                for name in _counters(lease.day, lease.month, lease.key_id):
                    self.served[name] = self.served.get(name, 0) + (lease.granted - account.served) * lease.cost
        self.workers[worker] = self._worker()

    @rule(worker=workers)
    def drain(self, worker: int) -> None:
        """A worker gives back all that it has."""
        for kind in range(len(KINDS)):
            self._give_back(self.workers[worker], kind)

    @rule()
    def settle(self) -> None:
        """When all is given back, counters equal what was served, to the unit, and no lease is left."""
        for number in range(WORKERS):
            self.deliver(number)
            self.drain(number)
        for name, used in (self.state.counters | {name: days[0] for name, days in self.state.days.items()}).items():
            assert used == self.served.get(name, 0), name
        for _ in range(3):  # what the dead have left is over by then, also where the clock has stepped back
            self.wait(HOLD)
            for kind in range(len(KINDS)):
                self._request(self.workers[0], kind)
        assert self.state.leases == {}

    @invariant()
    def little_is_leased(self) -> None:
        """All leases together hold at most a hundredth of each limit."""
        if not hasattr(self, "state"):
            return
        for key_id, limits in ("", self.limits), *self.own.items():
            held = sum(
                lease.held
                for lease in self.state.leases.values()
                if lease.stage != ENDED and key_id in ("", lease.key_id)
            )
            for size in (limits.burst, *limits.quotas):
                assert size is None or held * SHARE <= size

    # what may be

    def _touched(self, asked: Spend) -> None:
        """The store has read its buckets; so does the reference bucket, because clocks step."""
        Step(self.reference, _of_bucket(asked), self.now, (0, 0)).store()

    def _admitted(self, asked: Spend, day: int, month: int) -> None:
        """The reference bucket allows it, and no quota is exceeded."""
        spent = spend(self.reference, _of_bucket(asked), self.now)
        assert isinstance(spent, Spent)
        assert not spent.refused, "over-admitted"
        windows = asked.windows
        assert windows is not None
        names = _counters(day_field(windows, day), month_field(windows, month), asked.key_id)
        quotas = (*asked.limits.quotas[:2], *asked.key_limits.quotas[:2])
        for name, quota in zip(names, quotas, strict=True):
            self.served[name] = self.served.get(name, 0) + asked.cost
            assert quota is None or self.served[name] <= quota, name

    def _may_refuse(self, asked: Spend, spent: Spent) -> None:
        """The reference bucket would refuse, or nearly: because of units that other workers hold or never gave back."""
        peeked = spend(self.reference, replace(_of_bucket(asked), operation="peek"), self.now)
        assert isinstance(peeked, Spent)
        assert asked.windows is not None
        names = _counters(
            day_field(asked.windows, spent.row[2] - 1), month_field(asked.windows, spent.row[3] - 1), asked.key_id
        )
        for whose, limits, level, counters in (
            ("", asked.limits, peeked.level, names[:2]),
            ("key-", asked.key_limits, peeked.key_level, names[2:]),
        ):
            quotas = [
                (size, (size or 0) - self.served.get(counter, 0), quota.name)
                for quota, size, counter in zip(QUOTAS[:2], limits.quotas[:2], counters, strict=True)
            ]
            for size, left, name in ((limits.burst, level / MICRO, "burst"), *quotas):
                if size is not None and whose + name in spent.refused and not self.stepped_back:
                    assert left < asked.cost + size // SHARE + self.lost, (name, left)

    def _give_back(self, worker: Worker, kind: int) -> None:
        """Gives back units until the store has all of them; then the worker has a new account."""
        account = worker.accounts[kind]
        while account.lease_id:
            if account.give_back():
                self._send(worker, kind)
            self.deliver(self.workers.index(worker))
        worker.spends[kind], worker.accounts[kind] = self.spend_of(kind), self._account()

    def _send(self, worker: Worker, kind: int) -> None:
        worker.calls.append(Call(kind, worker.accounts[kind].ask(self.real / MICRO, worker.spends[kind])))


def _counters(day: str, month: str, key_id: str) -> tuple[str, str, str, str]:
    return day, month, f"{day}:{key_id}", f"{month}:{key_id}"


def _of_bucket(asked: Spend) -> Spend:
    """The same for the buckets alone."""
    limits, own = asked.limits, asked.key_limits
    return Spend(
        TENANT,
        asked.cost,
        Limits(limits.rate, limits.burst),
        key_id=asked.key_id,
        key_limits=Limits(own.rate, own.burst),
    )
