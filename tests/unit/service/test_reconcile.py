"""Which counters are reconciled: days and months of the charges and of the present, by each organization's calendar."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from extauthz.core.calendar import Calendar
from extauthz.core.errors import StoreCorrupt
from extauthz.core.ports import POSTGRESQL
from extauthz.core.tenants import Tenant
from extauthz.core.usage import Span
from extauthz.service.limits.reconcile import CounterReconciler
from tests.unit.service.fakes import NOW, TENANT

MENDED_LATER = StoreCorrupt(POSTGRESQL, "plan")


class Seeds:
    """A restorer that records what it was to reconcile."""

    def __init__(self) -> None:
        self.wanted: list[Mapping[str, Sequence[Span]]] = []

    async def complete(self, wanted: Mapping[str, Sequence[Span]]) -> None:
        self.wanted.append(wanted)


class Organizations:
    """One with a month of its own, one with a corrupt record, and no other."""

    at_once = 2

    async def find(self, asked: Sequence[str], now: float) -> list[Tenant | StoreCorrupt | None]:
        assert now == NOW
        assert len(asked) <= self.at_once
        anchored = replace(TENANT, calendar=Calendar(anchor=15))
        known: dict[str, Tenant | StoreCorrupt] = {"anchored": anchored, "senseless": MENDED_LATER}
        return [known.get(name) for name in asked]


async def completed(**days: list[date]) -> tuple[bool, Mapping[str, Sequence[Span]]]:
    seeds = Seeds()
    completion = CounterReconciler(Organizations(), seeds, clock=lambda: NOW)  # type: ignore[arg-type]  # see Seeds
    everybody = await completion.complete(days)
    return everybody, seeds.wanted[-1]


async def test_days_of_charges_and_days_round_now() -> None:
    """A hash that waited for weeks is reconciled for every day on which it was charged, and for today."""
    everybody, wanted = await completed(anchored=[date(2026, 12, 3), date(2027, 1, 14)], gone=[date(2026, 12, 3)])
    assert not everybody
    fields = {name: {span.field for span in spans} for name, spans in wanted.items()}
    days = {"d:20261203", "d:20270114", "d:20270115", "d:20270116"}
    assert fields["anchored"] == days | {"m:20261115", "m:20261215", "m:20270115", "m:20270215"}
    assert fields["gone"] == days | {"m:20261201", "m:20270101", "m:20270201"}
    assert Span("m:20261115", date(2026, 11, 15), date(2026, 12, 15)) in wanted["anchored"]
    assert Span("d:20261203", date(2026, 12, 3), date(2026, 12, 4)) in wanted["anchored"]


async def test_corrupt_record_waits() -> None:
    """Its calendar is unknown: it waits until it is repaired, without delaying others."""
    _, wanted = await completed(senseless=[], gone=[], anchored=[])
    assert set(wanted) == {"gone", "anchored"}


async def test_no_provisional_counters() -> None:
    """There is nothing to do."""
    assert await completed() == (True, {})
