"""Who is completed with what: days and months of the charges and round now, by each organization's own calendar."""

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
    """A Seeding that remembers what it was to complete."""

    def __init__(self) -> None:
        self.wanted: list[Mapping[str, Sequence[Span]]] = []

    async def complete(self, wanted: Mapping[str, Sequence[Span]]) -> None:
        self.wanted.append(wanted)


class Organizations:
    """One with a month of its own, one that makes no sense, and none else."""

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
    """A hash that waited for weeks is completed for every day on which it was charged, and for today."""
    everybody, wanted = await completed(anchored=[date(2026, 12, 3), date(2027, 1, 14)], gone=[date(2026, 12, 3)])
    assert not everybody
    fields = {name: {span.field for span in spans} for name, spans in wanted.items()}
    days = {"d:20261203", "d:20270114", "d:20270115", "d:20270116"}
    assert fields["anchored"] == days | {"m:20261115", "m:20261215", "m:20270115", "m:20270215"}
    assert fields["gone"] == days | {"m:20261201", "m:20270101", "m:20270201"}
    assert Span("m:20261115", date(2026, 11, 15), date(2026, 12, 15)) in wanted["anchored"]
    assert Span("d:20261203", date(2026, 12, 3), date(2026, 12, 4)) in wanted["anchored"]


async def test_a_record_that_makes_no_sense() -> None:
    """Nobody knows how it counts: it waits until it is mended, without holding others up."""
    _, wanted = await completed(senseless=[], gone=[], anchored=[])
    assert set(wanted) == {"gone", "anchored"}


async def test_nobody() -> None:
    """There is nothing to do."""
    assert await completed() == (True, {})
