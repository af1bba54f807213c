"""Records as rows of bytes: a packed record is restored exactly, and shared parts are counted."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.calendar import Calendar
from extauthz.core.credentials import Credential
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.tenants import STATUSES, Tenant
from extauthz.service.directory.entry import Asked, Entry, Record
from extauthz.service.directory.packed_rows import Packed, Rows
from extauthz.service.directory.row_formats import KeyRows, TenantRows
from extauthz.service.directory.shared_values import SharedValues
from tests.generated import examples
from tests.unit.service.fakes import KEY

times = st.floats(0, 4e9)
versions = st.integers(0, (1 << 63) - 1)
quotas = st.none() | st.integers(0, 10**12)
rates = st.sampled_from(("10", "0.5", "1/d", "100/min")).map(Rate.parse)
limits = st.builds(Limits, rates, st.integers(1, 10**9), quotas, quotas) | st.builds(
    Limits, st.none(), st.none(), quotas, quotas
)
ids = (
    st.uuids().map(str)
    | st.uuids().map(lambda id_: str(id_).upper())
    | st.text("abc-0123456789 ~", min_size=1, max_size=40)
    | st.from_regex(r"[0-9a-f-]{36}", fullmatch=True)
)
permissions = st.dictionaries(
    st.text("abc-_*", min_size=1, max_size=3), st.frozensets(st.sampled_from(("read", "write"))), max_size=3
)
digests = st.integers(0, (1 << 256) - 1).map(lambda number: f"{number:064x}")


@st.composite
def tenants(draw: st.DrawFn, read: tuple[float, int] | None = None) -> Tenant:
    loaded_at, version = read or (draw(times), draw(versions))
    return Tenant(
        draw(ids),
        draw(st.sampled_from(("gold", "free"))),
        draw(st.sampled_from(STATUSES)),
        draw(limits),
        loaded_at,
        version,
        draw(st.sampled_from(("", "p1"))),
        draw(st.none() | times),
        draw(limits),
        draw(st.sampled_from((Calendar(), Calendar("Europe/Berlin", 31)))),
        draw(st.booleans()),
    )


@st.composite
def keys(draw: st.DrawFn) -> Entry[Credential, ApiKey]:
    loaded_at, version = draw(times), draw(versions)
    tenant = draw(tenants(draw(st.none() | st.just((loaded_at, version)))))
    asked = Credential(tuple(draw(st.lists(digests, min_size=1, max_size=3, unique=True))))
    expires_at, revoked_at, disabled_at = (draw(st.none() | times) for _ in range(3))
    key = ApiKey(
        draw(ids),
        tenant.id,
        draw(permissions),
        expires_at,
        revoked_at,
        disabled_at,
        loaded_at,
        version,
        tenant,
        draw(st.sampled_from(asked.digests)),
        limits=draw(limits),
    )
    return entry_of(draw, asked, key)


def entry_of(draw: st.DrawFn, asked: Asked, record: Record) -> Entry[Asked, Record]:
    until = draw(st.floats(1, 4e9))
    return Entry(
        asked,
        record,
        draw(times | st.just(-inf)),
        draw(times),
        -1,
        until=until,
        good_until=min(until, record.ends_at),
        ends=draw(times | st.just(inf)),
        renew_at=draw(times),
        used_at=0.0,
    )


@st.composite
def organizations(draw: st.DrawFn) -> Entry[str, Tenant]:
    tenant = draw(tenants())
    return entry_of(draw, tenant.id, tenant)


def parts_of(rows: object) -> list[int]:
    """How many parts of each kind are counted in."""
    kinds = {**vars(rows), **vars(getattr(rows, "_ids", object))}
    return [len(kind) for kind in kinds.values() if isinstance(kind, SharedValues)]


@given(keys())
@examples(16, 2000)
def test_a_packed_key_comes_back(entry: Entry[Credential, ApiKey]) -> None:
    """The same record with the same times, for any content; once it is removed, no part of it is left."""
    comes_back(KeyRows(), entry)


@given(organizations())
@examples(16, 2000)
def test_a_packed_organization_comes_back(entry: Entry[str, Tenant]) -> None:
    """The same record with the same times, for any content; once it is removed, no part of it is left."""
    comes_back(TenantRows(), entry)


def comes_back(rows: Rows[Asked, Record], entry: Entry[Asked, Record]) -> None:
    packed = Packed(rows, places=1)
    name = rows.name(entry.asked)
    packed.put(name, entry)
    assert packed.peek(name, entry.asked) == entry
    assert packed.take(name, entry.asked) == entry
    assert len(packed) == 0
    assert packed.take(name, entry.asked) is None
    assert set(parts_of(rows)) == {0}


def test_shared_parts_are_kept_once() -> None:
    """Permissions, limits and policies of many keys are the same objects; a key takes a row and no more."""
    rows = KeyRows()
    packed = Packed(rows, places=1000)
    asked = [Credential((f"{number:064x}",)) for number in range(100)]
    for number, credential in enumerate(asked):
        packed.put(credential.digests[0], entry_with(credential, id=f"k{number}"))
    assert parts_of(rows) == [1, 1, 1, 0]
    found = [packed.take(credential.digests[0], credential) for credential in asked]
    assert [entry.record.id for entry in found if entry] == [f"k{number}" for number in range(100)]
    assert len({id(entry.record.permissions) for entry in found if entry}) == 1


def test_a_full_shelf_gives_up_what_ends_first() -> None:
    """A free row is taken first, then that of the record that ends first."""
    packed = Packed(KeyRows(), places=1)
    asked = [Credential((f"{number:064x}",)) for number in range(40)]
    for number, credential in enumerate(asked):
        packed.put(credential.digests[0], entry_with(credential, until=2000.0 - number if number < 32 else 3000.0))
    assert len(packed) == 32
    there = [packed.peek(credential.digests[0], credential) is not None for credential in asked]
    assert there == [True] * 24 + [False] * 8 + [True] * 8


def test_parts_that_find_no_room_cost_a_shelf() -> None:
    """A record whose parts find no room is not kept; unused rows make room for the next."""
    rows = KeyRows(parts=3)
    packed = Packed(rows, places=1)
    asked = [Credential((f"{number:064x}",)) for number in range(5)]
    for number, credential in enumerate(asked):
        packed.put(credential.digests[0], entry_with(credential, permissions={f"r{number}": frozenset()}))
    assert [packed.peek(each.digests[0], each) is not None for each in asked] == [False] * 4 + [True]
    assert parts_of(rows) == [1, 1, 1, 0]


@pytest.mark.parametrize("changes", [{"digest": "f" * 64}, {"organization_id": "other"}])
def test_failed_packing_leaves_nothing_behind(changes: Mapping[str, str]) -> None:
    """It is not kept, and no part of it either."""
    rows = KeyRows()
    packed, asked = Packed(rows, places=1), Credential((f"{7:064x}",))
    entry = entry_with(asked)
    entry.record = replace(entry.record, **changes)  # type: ignore[arg-type] # only texts
    packed.put(asked.digests[0], entry)
    assert packed.peek(asked.digests[0], asked) is None
    assert parts_of(rows) == [0, 0, 0, 0]


def test_codes_of_nothing_but_zeros() -> None:
    """A code that looks like a free row, or like the ends of two others, is found all the same."""
    packed = Packed(KeyRows(), places=1)
    asked = [Credential((digits * 2,)) for digits in ("0" * 32, "0" * 31 + "1", "1" + "0" * 31)]
    for credential in asked:
        packed.put(credential.digests[0], entry_with(credential))
    for credential in asked:
        assert packed.take(credential.digests[0], credential) is not None
    assert len(packed) == 0


def entry_with(asked: Credential, *, until: float = 2000.0, **changes: object) -> Entry[Credential, ApiKey]:
    key = replace(KEY, **{"digest": asked.digests[0], **changes})  # type: ignore[arg-type] # as the test says
    return Entry(
        asked, key, 0.0, 0.0, -1, until=until, good_until=min(until, key.ends_at), ends=inf, renew_at=0.0, used_at=0.0
    )


def test_values_that_find_no_room() -> None:
    """A record with such a part leaves the counts as they were; a number that is not in use has no value."""
    asked, rows = Credential(("2" * 64,)), KeyRows(parts=1)
    assert rows.pack(entry_with(Credential(("1" * 64,)))) is not None
    assert parts_of(rows)[:3] == [1, 1, 1]
    assert rows.pack(entry_with(asked, permissions={})) is None
    assert rows.pack(entry_with(asked, limits=Limits(daily_quota=1))) is None
    assert parts_of(rows)[:3] == [1, 1, 1]
    values: SharedValues[str] = SharedValues(at_most=1)
    number = values.count_in("a", "a")
    assert number is not None
    assert values.count_in("b", "b") is None
    values.count_out(number)
    with pytest.raises(LookupError, match="not in use"):
        values[number]
