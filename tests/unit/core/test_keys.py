"""Keys, permissions and organizations: which records are valid, and what they permit at a given moment."""

import json
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.calendar import Calendar
from extauthz.core.changes import EntityRef
from extauthz.core.keys import ApiKey, ended_by
from extauthz.core.limits import Limits
from extauthz.core.permissions import (
    FULL_ACCESS,
    MODES,
    parse_permissions,
    permitted,
    refusal_code,
    storable,
    unknown_resources,
)
from extauthz.core.tenants import Tenant, key_part
from tests.refusals import refusal
from tests.unit.service.fakes import KEY, NOW, TENANT

RECORD = KEY.to_record()
READ, WRITE, BOTH = frozenset({"read"}), frozenset({"write"}), frozenset(MODES)

times = st.none() | st.floats(0, 4e9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_-]{1,64}|\*", fullmatch=True), st.frozensets(st.sampled_from(MODES)), max_size=3
    ),
    st.tuples(times, times, times),
    st.floats(0, 4e9),
)
def test_record_of_a_key_is_the_key(
    permissions: dict[str, frozenset[str]], ends: tuple[float | None, float | None, float | None], loaded_at: float
) -> None:
    """What is written into a cache as JSON and read again is the same key, to the last microsecond."""
    expires_at, revoked_at, disabled_at = ends
    key = ApiKey(
        "k", TENANT.id, permissions, expires_at, revoked_at, disabled_at, loaded_at, 1 << 62, TENANT, KEY.digest
    )
    assert ApiKey.from_record(json.loads(json.dumps(key.to_record()))) == key


def test_a_missing_field_is_an_error() -> None:
    """A record without a field, `revoked_at` for one, is not taken for a key in force."""
    tenant = TENANT.to_record()
    for name in RECORD:
        assert refusal(ApiKey.from_record, {field: RECORD[field] for field in RECORD if field != name})
    for name in tenant:
        without = {field: tenant[field] for field in tenant if field != name}
        assert refusal(ApiKey.from_record, RECORD | {"tenant": without})


CORRUPT: list[tuple[dict[str, object], str]] = [
    ({"id": ""}, "id must be"),
    ({"id": 7}, "id must be"),
    ({"id": "a\r\nx-organization-id: b"}, "id must be"),
    ({"id": "a\n"}, "id must be"),
    ({"id": " a"}, "id must be"),
    ({"id": "ключ"}, "id must be"),
    ({"id": "k" * 256}, "id must be"),
    ({"organization_id": "org-2"}, "tenant must be the key's organization"),
    ({"permissions": None}, "permissions must be"),
    ({"permissions": ["read"]}, "permissions must be"),
    ({"permissions": {"a/b": ["read"]}}, "permissions must not name a malformed resource"),
    ({"permissions": {"": ["read"]}}, "permissions must not name a malformed resource"),
    ({"permissions": {"customer\n": ["read"]}}, "permissions must not name a malformed resource"),
    ({"permissions": {"c" * 65: ["read"]}}, "permissions must not name a malformed resource"),
    ({"permissions": {"customer": "read"}}, "permissions hold modes other than"),
    ({"permissions": {"customer": None}}, "permissions hold modes other than"),
    ({"permissions": {"customer": ["admin"]}}, "permissions hold modes other than"),
    ({"permissions": {"customer": [["read"]]}}, "permissions hold modes other than"),
    ({"permissions": {"customer": {"read": True}}}, "permissions hold modes other than"),
    ({"expires_at": "2030-01-01"}, "expires_at must be a time"),
    ({"expires_at": -1}, "expires_at must be a time"),
    ({"expires_at": float("nan")}, "expires_at must be a time"),
    ({"expires_at": float("inf")}, "expires_at must be a time"),
    ({"expires_at": 10**400}, "expires_at must be a time"),
    ({"revoked_at": False}, "revoked_at must be a time"),
    ({"disabled_at": "never"}, "disabled_at must be a time"),
    ({"loaded_at": None}, "loaded_at must be a time"),
    ({"version": None}, "version must be the number"),
    ({"version": True}, "version must be the number"),
    ({"version": 7.0}, "version must be the number"),
    ({"version": -1}, "version must be the number"),
    ({"version": 1 << 63}, "version must be the number"),
    ({"hash": ""}, "hash must be 64"),
    ({"hash": "AB" * 32}, "hash must be 64"),
    ({"hash": "ab" * 32 + "\n"}, "hash must be 64"),
    ({"tenant": None}, "tenant must be an object"),
    ({"limits": None}, "limits must be an object"),
    ({"tenant": TENANT.to_record() | {"limits_mode": "off"}}, "limits_mode must be enforce or shadow"),
    ({"tenant": TENANT.to_record() | {"calendar": None}}, "plan_limits and calendar must be objects"),
    ({"tenant": TENANT.to_record() | {"overrides_until": "never"}}, "overrides_until must be a time"),
    ({"tenant": TENANT.to_record() | {"version": "7"}}, "version must be the number"),
    ({"tenant": TENANT.to_record() | {"plan_id": None}}, "plan_id must be"),
    ({"tenant": [TENANT.to_record()]}, "tenant must be an object"),
    ({"tenant": TENANT.to_record() | {"status": "paused"}}, "status must be"),
    ({"tenant": TENANT.to_record() | {"status": ["active"]}}, "status must be"),
    ({"tenant": TENANT.to_record() | {"plan": "p\nq"}}, "plan must be"),
    ({"tenant": TENANT.to_record() | {"rate": "banana"}}, "rate must be one that can be stored"),
]


def test_corrupt_record() -> None:
    """Each wrong value is named by its field."""
    told = [(changed, said, refusal(ApiKey.from_record, RECORD | changed)) for changed, said in CORRUPT]
    assert [case for case in told if not case[2].startswith(case[1])] == []


@given(st.sampled_from([*RECORD, *TENANT.to_record()]), json_values)
def test_any_json_is_a_key_or_an_error(name: str, value: object) -> None:
    """Any JSON gives a key, or a ValueError of one line that does not quote it."""
    tenant = TENANT.to_record() | ({name: value} if name in TENANT.to_record() else {})
    record = RECORD | {"tenant": tenant} | ({name: value} if name in RECORD else {})
    try:
        key = ApiKey.from_record(record)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are right
        assert not (isinstance(value, str) and len(value) > 4 and value in str(error))  # noqa: PT017
    else:
        assert key == ApiKey.from_record(json.loads(json.dumps(key.to_record())))


def test_when_a_key_is_admitted() -> None:
    """Up to the moment it expires; a revoked or disabled key never, whatever any clock says."""
    admitting: list[dict[str, float]] = [{}, {"expires_at": NOW + 0.000001}]
    ended: list[dict[str, float]] = [{"expires_at": at} for at in (NOW, NOW - 1, 0.0)]
    ended += [{"revoked_at": at} for at in (NOW - 1, NOW + 3600, 0.0)]
    ended += [{"disabled_at": NOW + 3600}, {"disabled_at": 0.0, "expires_at": NOW + 3600}]
    for changed in admitting + ended:
        assert replace(KEY, **changed).admits(NOW) is (changed in admitting)  # type: ignore[arg-type] # only times


PERMITTED: list[tuple[Mapping[str, frozenset[str]], str, str, bool]] = [
    ({"customer": READ}, "customer", "read", True),
    ({"customer": READ}, "customer", "write", False),
    ({"customer": WRITE}, "customer", "read", False),
    ({"customer": BOTH}, "customer", "write", True),
    ({"customer": BOTH}, "invoice", "read", False),
    ({"customer": BOTH}, "Customer", "read", False),
    ({"customer": frozenset()}, "customer", "read", False),
    ({}, "customer", "read", False),
    ({"*": READ}, "customer", "read", True),
    ({"*": READ}, "customer", "write", False),
    ({"*": READ, "customer": WRITE}, "customer", "read", True),
    ({"*": frozenset()}, "customer", "read", False),
    (FULL_ACCESS, "anything", "write", True),
]


def test_what_is_permitted() -> None:
    """By its own name or by `*`; a missing resource or an empty list grants nothing."""
    assert [case for case in PERMITTED if permitted(*case[:3]) is not case[3]] == []


def test_rows_of_a_record() -> None:
    """The rows that a record was read from: a key's own; an organization's own, and its plan's if it has one."""
    key, organization = EntityRef("api_key", KEY.id), EntityRef("organization", TENANT.id)
    assert KEY.made_of == (key,)
    assert TENANT.made_of == (organization, EntityRef("plan", TENANT.plan_id))
    assert replace(KEY, tenant=replace(TENANT, plan_id="")).made_of == (key, organization)


def test_no_digest_in_a_repr() -> None:
    """A key's digest is not secret, but does not belong in a log."""
    assert KEY.digest not in repr(KEY)


def test_refusal_names_mode_and_resource() -> None:
    """The code that API clients see is the one of the contract."""
    assert refusal_code("customer", "read") == "read_action_not_allowed_for_customer"
    assert refusal_code("customer", "write") == "write_action_not_allowed_for_customer"


def test_stored_form_of_permissions() -> None:
    """Modes are stored in one order and read whatever the order or repetition."""
    parsed = parse_permissions({"customer": ["write", "read", "read"], "invoice": []})
    assert parsed == {"customer": BOTH, "invoice": frozenset()}
    assert storable(parsed) == {"customer": ["read", "write"], "invoice": []}


def test_resources_without_a_route() -> None:
    """They are listed in order; `*` always has a route, and so has any name where a path gives the resource."""
    permissions = {"zebra": READ, "customer": READ, "*": READ, "ape": READ}
    assert unknown_resources(permissions, {"customer"}) == ["ape", "zebra"]
    assert unknown_resources(permissions, None) == []


def test_record_of_a_tenant_is_the_tenant() -> None:
    """What is written into a cache as JSON and read again is the same organization; suspended stays suspended."""
    suspended = replace(TENANT, status="suspended", plan_id="", overrides_until=NOW, shadow=True, version=0)
    assert Tenant.from_record(json.loads(json.dumps(suspended.to_record()))) == suspended
    assert suspended.suspended
    assert not TENANT.suspended


@given(*[st.text(st.characters(exclude_categories=()), max_size=70)] * 2)
def test_two_tenants_never_share_a_key(one: str, other: str) -> None:
    """The name's part of a store's key is plain text of its own, whatever the name holds."""
    assert (key_part(one) == key_part(other)) == (one == other)
    assert set(key_part(one)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")


def test_how_a_tenant_is_named_in_keys() -> None:
    """Plain names as they are, all others in hex behind a dot, which no plain name has."""
    parts = {
        "acme": "acme",
        "a" * 64: "a" * 64,
        "a" * 65: "." + "61" * 65,
        "a}b": ".617d62",
        "": ".",
        "a\n": ".610a",
        "\udcff": ".edb3bf",
    }
    assert {name: key_part(name) for name in parts} == parts


def test_why_a_key_admits_nothing() -> None:
    """A revoked key is revoked, whatever else has ended; a disabled one is disabled, also after it has expired."""
    ends = {"expires_at": 1.0, "disabled_at": 2.0, "revoked_at": 3.0}
    whys = []
    key = KEY
    for name, at in ends.items():
        key = replace(key, **{name: at})  # type: ignore[arg-type] # only times
        whys.append(ended_by(key))
    assert whys == ["expired", "disabled", "revoked"]


def test_a_tenant_of_its_terms() -> None:
    """Id, terms and read make the same organization again; its own limits end at the second in which they end."""
    plan = Limits(daily_quota=9)
    shadow = replace(TENANT, shadow=True, overrides_until=NOW, plan_limits=plan, calendar=Calendar("Asia/Tokyo", 5))
    assert Tenant.of(shadow.id, shadow.terms, shadow.loaded_at, shadow.version) == shadow
    assert (shadow.limits_at(NOW - 1), shadow.limits_at(NOW)) == (TENANT.limits, plan)
    assert TENANT.limits_at(1e12) == TENANT.limits
