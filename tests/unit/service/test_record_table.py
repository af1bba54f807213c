"""The record table: which entries are evicted when it is full, which are due, and that nothing grows."""

from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest

from extauthz.core.tenants import Tenant
from extauthz.service.directory import negative_cache
from extauthz.service.directory.entry import Entry
from extauthz.service.directory.packed_rows import Packed
from extauthz.service.directory.record_table import RecordTable
from extauthz.service.directory.row_formats import TenantRows
from extauthz.service.directory.tiers import CachePolicy
from tests.unit.service.fakes import NOW, TENANT

TenantsHeld = RecordTable[str, Tenant]


def held_of(
    *, at_most: int = 20_000, packed: int = 0, evicted: Callable[[Entry[str, Tenant]], None] = lambda _: None
) -> TenantsHeld:
    return RecordTable(Packed(TenantRows(), places=packed), at_most=at_most, evicted=evicted)


def entry(name: str, *, renew_at: float = NOW + 100, used_at: float = 0.0) -> Entry[str, Tenant]:
    tenant = replace(TENANT, id=name)
    return Entry(
        name, tenant, 0.0, 0.0, 0, until=NOW + 120, good_until=NOW + 120, ends=inf, renew_at=renew_at, used_at=used_at
    )


def noted(held: TenantsHeld) -> int:
    """How many names are kept besides the records themselves."""
    return sum(len(names) for names in held._due.values())


def due(held: TenantsHeld, now: float) -> set[object]:
    return {name for name, _ in held.take_due(now)}


def test_a_million_names_do_not_grow_it() -> None:
    """With any number of keys, records and the notes on them stay within their limits."""
    held = held_of(at_most=100, packed=500)
    for number in range(20_000):
        name = str(number)
        held.keep(name, entry(name, renew_at=NOW + number % 100))
        held.postpone(name, NOW + number % 50)
        assert noted(held) <= 201
        assert len(held) <= 600
    assert len(held) > 500


def test_the_limits_themselves() -> None:
    """The limits on which the memory estimate is based."""
    policy = CachePolicy(120, 600)
    assert (policy.in_use, policy.packed) == (10_000, 204_800)
    assert (negative_cache.REFUSALS_MAX, negative_cache.REFUSAL_TTL_SECONDS) == (10_000, 1.0)


def test_one_record_renewed_for_ever_does_not_grow_it() -> None:
    """A record that is renewed again and again is noted about once."""
    held = held_of(at_most=10)
    for second in range(1000):
        held.keep("a", entry("a", renew_at=NOW + second, used_at=NOW))
        assert noted(held) <= 21
    assert due(held, NOW + 1001) == {"a"}
    assert noted(held) == 0


def test_keys_in_use_stay() -> None:
    """Records that are used while a flood of others, each used once, goes through are the same objects after it."""
    held = held_of(at_most=50, packed=1000)
    held.keep("hot", entry("hot"))
    for number in range(5000):
        if number % 20 == 0:
            found = held.get("hot")
            assert found is not None
            found.used_at = NOW + number
        one = entry(str(number), used_at=NOW + number)
        one.spared_at = one.used_at
        held.keep(str(number), one)
    assert held.get("hot") is not None


def test_a_renewed_record_is_the_newest() -> None:
    """A record that was just renewed is not the first to be evicted."""
    held = held_of(at_most=2)
    for name in ("a", "b", "a", "c"):
        held.keep(name, entry(name))
    assert [held.get(name) is not None for name in "abc"] == [True, False, True]


@pytest.mark.parametrize("tenth", range(10))
def test_everything_in_use_comes_due_once(tenth: int) -> None:
    """Whenever it is looked at within a second, every record in use comes due, none too early or twice."""
    held = held_of()
    for number in range(30):
        held.keep(str(number), entry(str(number), renew_at=NOW + number / 10, used_at=NOW))
    held.keep("unused", entry("unused", renew_at=NOW))
    seen: list[str] = []
    for second in range(6):
        now = NOW + second + tenth / 10
        for name, found in held.take_due(now):
            assert now - 2.001 < found.renew_at <= now
            seen.append(str(name))
    assert sorted(seen, key=int) == [str(number) for number in range(30)]


def test_dropped_records_do_not_come_due() -> None:
    """A record that was dropped, replaced or postponed does not come due at its old time."""
    held = held_of()
    for name in ("dropped", "replaced", "postponed", "stays"):
        held.keep(name, entry(name, renew_at=NOW, used_at=NOW))
    held.drop("dropped")
    held.keep("replaced", entry("replaced", renew_at=NOW + 50, used_at=NOW))
    held.postpone("postponed", NOW + 50)
    held.postpone("nobody", NOW)
    assert due(held, NOW + 2) == {"stays"}
    assert due(held, NOW + 52) == {"replaced", "postponed"}


def test_unused_record_is_packed_and_found_again() -> None:
    """It leaves the records in use, is equal when it is found, and is in use again, as another object."""
    held = held_of(at_most=2, packed=1000)
    first = entry("a", renew_at=NOW + 7)
    held.keep("a", first)
    for name in "bc":
        held.keep(name, entry(name))
    assert held.get("a") is None
    assert len(held) == 3
    copied = held.copy("a", "a")
    assert held.get("a") is None
    found = held.find("a", "a")
    assert found is not None
    assert found is held.get("a")
    assert (found.record, found.renew_at, found.until) == (first.record, first.renew_at, first.until)
    assert copied == found
    assert copied is not found
    assert found is held.find("a", "a")
    assert len(held) == 3


def test_packed_record_comes_due_when_used_again() -> None:
    """Packed records end by themselves; one that is in use again is renewed at its time."""
    held = held_of(at_most=1, packed=1000)
    for name in "abc":
        held.keep(name, entry(name, renew_at=NOW, used_at=NOW))
    found = held.find("a", "a")
    assert found is not None
    found.used_at = NOW
    assert due(held, NOW + 2) == {"a"}


def test_evicted_entries_are_reported() -> None:
    """Each entry is reported once, whether packed, replaced or removed, also one that was packed before."""
    evicted: list[Entry[str, Tenant]] = []
    held = held_of(at_most=2, packed=1000, evicted=evicted.append)
    first, second, third, fourth = entry("a"), entry("b"), entry("c"), entry("b", renew_at=NOW + 7)
    for each in (first, second, third, fourth):
        held.keep(each.asked, each)
    held.drop("b")
    held.drop("a")
    assert list(map(id, evicted)) == list(map(id, (first, second, fourth)))


@pytest.mark.parametrize("packed", [False, True])
def test_a_name_has_one_entry(packed: bool) -> None:
    """After it is replaced or removed, a packed entry does not come back."""
    held = held_of(at_most=1, packed=1000)
    held.keep("a", entry("a"))
    if packed:
        held.keep("b", entry("b"))
        assert held.get("a") is None
    other = entry("a", renew_at=NOW + 7)
    held.keep("a", other)
    held.keep("c", entry("c"))
    found = held.find("a", "a")
    assert found is not None
    assert found.renew_at == NOW + 7
    if packed:
        held.keep("d", entry("d"))
    held.drop("a")
    assert held.find("a", "a") is None
