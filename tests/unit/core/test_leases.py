"""Workers serve from leases what a store that is asked for each request would have allowed."""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from extauthz.core import lease_steps
from extauthz.core.lease_account import Account
from extauthz.core.leases import HOLD
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.spend import MICRO
from extauthz.core.token_bucket import State
from tests.generated import examples, is_deep
from tests.leasing import Book, Leasing
from tests.unit.core.test_spend import NOW, question

BUCKET, OF_KEY = Limits(Rate(500, 1), 250), Limits(Rate(300, 1), 200)
HOLDERS = [(BUCKET, UNLIMITED), (UNLIMITED, OF_KEY)]
FEW, DEAR = 0, 3  # kinds of requests: of cost 1 and 40


@pytest.mark.fuzz
def test_leases_never_admit_too_much() -> None:
    """With any order of messages, deaths and clocks: none too many, hardly one too early, charged to the unit."""
    run_state_machine_as_test(
        Leasing, settings=settings(examples(2, 3_000), stateful_step_count=40 if is_deep() else 20)
    )


def leasing(limits: Limits, own: Limits = UNLIMITED, *, until_midnight: int = 7200) -> Leasing:
    """Workers of which the first has a lease of a few units, so many seconds before midnight."""
    world = Leasing()
    world.begin(limits, own)
    world.step(by=(1 - until_midnight) * MICRO)
    world.drain(worker=0)
    world.exchange(worker=0, kind=FEW, calls=1)
    assert world.workers[0].accounts[FEW].left > 0
    return world


def empty(world: Leasing) -> None:
    """Another worker takes all that is left, and the first serves from its lease."""
    world.request(worker=1, kind=DEAR, times=20)
    world.request(worker=1, kind=FEW, times=50)
    world.request(worker=0, kind=FEW, times=20)


@pytest.mark.parametrize(("limits", "own"), HOLDERS, ids=["owner", "key"])
def test_a_bucket_does_not_fill_beside_a_lease(limits: Limits, own: Limits) -> None:
    """While units are leased, bucket and lease together are one bucket; it fills again once they are given back."""
    world = leasing(limits, own)
    world.wait(900_000)
    empty(world)
    world.settle()
    world.wait(MICRO)
    empty(world)


@pytest.mark.parametrize(("limits", "own"), HOLDERS, ids=["owner", "key"])
@pytest.mark.parametrize("by", [1, 3600])
def test_a_clock_that_steps_ends_no_lease_that_is_served(limits: Limits, own: Limits, by: int) -> None:
    """A step forward does not end a lease at once, because its worker may not have noticed the step."""
    world = leasing(limits, own)
    world.step(by=by * MICRO)
    world.request(worker=1, kind=DEAR, times=1)  # sees that the lease is late
    world.wait(900_000)
    empty(world)


@pytest.mark.parametrize(("limits", "own"), HOLDERS, ids=["owner", "key"])
def test_a_lease_that_ended_gives_nothing_back_to_a_bucket(limits: Limits, own: Limits) -> None:
    """It may have filled meanwhile; the units are given back to the counters alone."""
    world = leasing(limits, own)
    for _ in range(3):
        world.wait(HOLD)
        world.request(worker=1, kind=FEW, times=1)
    world.request(worker=1, kind=DEAR, times=20)
    world.drain(worker=0)
    world.request(worker=1, kind=FEW, times=20)
    world.settle()


def test_nothing_is_served_from_a_lease_for_long() -> None:
    """A worker without an answer asks the store before another worker could have ended its lease."""
    world = leasing(BUCKET)
    world.wait(MICRO)
    assert world.workers[0].accounts[FEW].serve(world.real / MICRO) is None


def test_a_lease_ends_before_its_day_does() -> None:
    """Units counted on one day are not served on the next."""
    world = leasing(UNLIMITED, until_midnight=1)
    world.wait(998_000)
    assert world.workers[0].accounts[FEW].serve(world.real / MICRO) is not None
    world.wait(1_000)
    assert world.workers[0].accounts[FEW].serve(world.real / MICRO) is None


def test_reported_units_refill_from_the_report_on() -> None:
    """A report that units were served gives the bucket room from then on, not for the time before."""
    world = leasing(BUCKET)
    world.wait(500_000)
    account = world.workers[0].accounts[FEW]
    world.request(worker=0, kind=FEW, times=account.left)
    world.deliver(worker=0)
    world.request(worker=1, kind=DEAR, times=20)
    world.request(worker=1, kind=FEW, times=50)
    world.request(worker=0, kind=FEW, times=20)


def test_lease_of_a_killed_worker_ends() -> None:
    """Its lease ends four seconds later, charged; the bucket is whole again, and other workers may lease."""
    world = leasing(BUCKET)
    world.kill(worker=0)
    world.settle()
    world.wait(MICRO)
    world.exchange(worker=1, kind=FEW, calls=2)
    assert world.workers[1].accounts[FEW].left > 0


@pytest.mark.parametrize(("trip", "units"), [(0.0, 50), (1 / 32, 113), (0.5, 250)])
def test_leases_are_larger_where_answers_are_slow(trip: float, units: int) -> None:
    """A lease is to last until the next answer is there: for 50 ms and two trips to the store, of 0.1 s at most."""
    asked, state, account = question(Limits(Rate(10**6, 1), 10**6)), State(), Account(0.0, Book())
    for second in range(1, 5):
        for _ in range(1000):
            account.answered(second, 0, (0,) * 12)
        ask = account.ask(second, asked)
        account.told(ask, lease_steps.lease(state, ask, int(NOW * MICRO)), second + trip)
    assert account.left == units
