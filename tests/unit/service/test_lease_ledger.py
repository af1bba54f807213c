"""The ledger in which a worker records its leases: of fixed size, and readable by its successor."""

from extauthz.core.limits import Limits, Rate
from extauthz.service.limits.lease_ledger import LEDGER_PLACES, SIZE, Ledger
from tests.unit.core.test_spend import question

PLENTY = Limits(Rate(1000, 1), 100_000, 1_000_000)


def test_a_ledger_has_room_for_so_many() -> None:
    """A row is free again once its lease is closed; without a free row no lease is taken."""
    memory = memoryview(bytearray(SIZE))
    ledger, asked = Ledger(memory), question(PLENTY, own=Limits(Rate(7, 60), 3))
    places = [ledger.begin(asked)[1] for _ in range(LEDGER_PLACES)]
    assert not ledger.has_room(asked)
    assert sorted(places) == list(range(LEDGER_PLACES))
    for place in places[1:]:
        ledger.end(place)
    assert ledger.has_room(asked)
    assert not ledger.has_room(question(PLENTY, key="k" * 256))
    ledger.served[places[0]] = 41
    (left,) = Ledger(memory).left()
    assert (left.place, left.served) == (places[0], 41)
    spend = left.spend
    assert (spend.owner, spend.key_id, spend.cost) == (asked.owner, asked.key_id, asked.cost)
    assert (spend.limits, spend.key_limits) == (asked.limits, asked.key_limits)
