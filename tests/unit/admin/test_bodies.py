"""Request bodies are read exactly, or rejected with the field's name."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from extauthz.admin.api import OPERATIONS
from extauthz.admin.problems import Problem
from extauthz.admin.request import parse_body
from extauthz.admin.schemas.base import Nothing
from extauthz.admin.schemas.keys import ApiKeyChanges, ImportedApiKey, NewApiKey, Revocation, Rotation
from extauthz.admin.schemas.organizations import NewOrganization, OrganizationChanges
from extauthz.admin.schemas.plans import NewPlan, PlanChanges

# Every body that the API takes.
BODIES = {operation.body or Nothing for operation in OPERATIONS}
MODELS: list[type[BaseModel]] = sorted(BODIES, key=lambda model: model.__name__)


def refused(body: bytes | dict[str, object], model: type[BaseModel]) -> Problem:
    """The error of a body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Problem) as caught:
        parse_body(data, model, optional=False)
    assert json.loads(caught.value.body())["status"] in (400, 422)
    return caught.value


NO_OBJECTS = [
    (b"", "missing"),
    (b"{", "must be JSON"),
    (b"{}{}", "must be JSON"),
    (b"null", "not a JSON object"),
    (b"[]", "not a JSON object"),
    (b'"text"', "not a JSON object"),
    (b"0", "not a JSON object"),
    (b"\xff", "UTF-8"),
    (b"\xef\xbb\xbf{}", "must be JSON"),
    (b'{"a": NaN}', "NaN"),
    (b'{"a": -Infinity}', "Infinity"),
    (b'{"a": 1, "b": 2, "a": 1}', "a: stands more than once"),
    (b'{"a": {"b": 1, "b": 2}}', "b: stands more than once"),
    (b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "nested too deeply"),
    (b'{"a": ' + b"1" * 5_000 + b"}", "too long"),
]


@pytest.mark.parametrize("model", MODELS)
def test_body_must_be_a_json_object(model: type[BaseModel]) -> None:
    """400, with a reason, for anything but a JSON object."""
    for body, words in NO_OBJECTS:
        problem = refused(body, model)
        assert (problem.status, problem.code) == (400, "malformed_json")
        assert words in problem.detail


@pytest.mark.parametrize("model", MODELS)
def test_unknown_field_is_rejected(model: type[BaseModel]) -> None:
    """422 that names it, because a misspelt limit must not count as an absent one."""
    problem = refused({"daily_quotas": 5}, model)
    assert problem.status == 422
    assert "daily_quotas" in [mistake.field for mistake in problem.errors]


BASE: dict[type[BaseModel], dict[str, object]] = {
    NewPlan: {"name": "gold"},
    NewOrganization: {"name": "acme"},
    NewApiKey: {"organization_id": "acme"},
    ImportedApiKey: {"organization_id": "acme", "key": "a" * 32},
    PlanChanges: {},
    OrganizationChanges: {},
    ApiKeyChanges: {},
    Rotation: {},
    Revocation: {},
}


_WRONG: list[tuple[type[BaseModel], str, object]] = [
    *[(NewPlan, "name", value) for value in ("", " gold", "gold ", "go\nld", "gold\n", "x" * 65, "göld", 5, None)],
    *[(NewPlan, "rate", value) for value in (5, 0.5, True, "", "0", "0/s", "5/week", "-1", "1e3", "٣", "1" * 20)],
    *[(NewPlan, "burst", value) for value in (True, "5", 5.5, 0, -1, 10**9 + 1, 10**400, [5], {"a": 5})],
    *[(NewPlan, "daily_quota", value) for value in (False, "5", 5.5, -1, 10**12 + 1)],
    *[(NewOrganization, "name", value) for value in ("", " ", "a\x00b", "a\r\n", " acme", "\ud800", "x" * 10_240)],
    *[
        (NewOrganization, "name", f"a{hidden}b")
        for hidden in "\u200b\u200d\u202e\u2066\ufeff\u00ad\u3164\ufe0f\ue000\U000e0041"
    ],
    *[(NewOrganization, "name", value) for value in ("\u00a0a", "a\u3000", "\u2003")],
    (NewOrganization, "name", "0b8a4f3e-0000-4000-8000-00000000000A"),
    *[(NewOrganization, "plan", value) for value in (None, 1, "", "\n")],
    *[(OrganizationChanges, "status", value) for value in (None, "Active", "gone", 1, ["active"])],
    *[(OrganizationChanges, "name", value) for value in (None, "")],
    *[(OrganizationChanges, "limits", value) for value in (None, "none", "Shadow", True, ["shadow"])],
    *[(OrganizationChanges, "timezone", value) for value in (None, "", 1, "/UTC", "UTC/", "a b", "../x", "x" * 65)],
    *[(OrganizationChanges, "anchor", value) for value in (None, 0, 32, 32.0, -1, "1", 1.5, True, 10**30, 1e300)],
    *[(OrganizationChanges, "until", value) for value in (0, "", "none", "2030-01-31", "2030-01-31T12:00:00", True)],
    *[(NewApiKey, "organization_id", value) for value in (None, 1, "", "\x00", "x" * 256)],
    *[
        (NewApiKey, "name", value)
        for value in (None, 1, "\x00", "\r\n", "\x85", "\u2028", "\udfff", "x" * 256, "\u200b", "\u202e")
    ],
    *[(NewApiKey, "permissions", value) for value in (None, ["x"], "read", [["customer", "read"]])],
    *[(NewApiKey, "metadata", value) for value in (None, ["x"], {str(number): "" for number in range(51)})],
    *[(NewApiKey, "expires_at", value) for value in (0, "", True, "2030-01-31", "2030-01-31T12:00:00", "tomorrow")],
    *[(NewApiKey, "expires_at", f"2030-{text}") for text in ("02-30T00:00:00Z", "01-01T24:00:01Z", "W01-1T00:00Z")],
    *[(NewApiKey, "expires_at", text) for text in ("1893456000", "0000-01-01T00:00:00Z", "2030-01-01T00:00:00+99:00")],
    *[(ImportedApiKey, "key", value) for value in (None, 1, "", "short")],
    *[(ApiKeyChanges, name, None) for name in ("name", "permissions", "metadata")],
    *[(Rotation, "grace", value) for value in (None, True, 1.5, -1, "1", "-1s", "1w", "366d", 31_536_001, "1H", "٣s")],
    *[(Revocation, "last", value) for value in (None, 1, "true")],
]


def test_a_field_that_cannot_be_is_named() -> None:
    """Values are not converted or rounded to valid ones; the error names the field."""
    for model, field, value in _WRONG:
        problem = refused({**BASE[model], **({"burst": 5} if field == "rate" else {}), field: value}, model)
        assert (problem.status, problem.errors[0].field) == (422, field), value


@pytest.mark.parametrize("zone", ["", "/UTC", "Europe/" + "x" * 58, "x" * 5000])
def test_wrong_time_zone(zone: str) -> None:
    """The same words for a name of any length."""
    problem = refused({"timezone": zone}, OrganizationChanges)
    assert problem.detail == "timezone: is the name of a time zone, as Europe/Berlin"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("permissions", {"customer": "read"}, "permissions.customer"),
        ("permissions", {"customer": ["delete"]}, "permissions.customer.0"),
        ("permissions", {"customer": [None]}, "permissions.customer.0"),
        ("permissions", {"customer": {"read": True}}, "permissions.customer"),
        ("permissions", {"a b": ["read"]}, "permissions.a b"),
        ("permissions", {"**": []}, "permissions.**"),
        ("metadata", {"a": 1}, "metadata.a"),
        ("metadata", {"a": None}, "metadata.a"),
        ("metadata", {"a": "\x00"}, "metadata.a"),
        ("metadata", {"a": "x" * 501}, "metadata.a"),
        ("metadata", {"": "x"}, "metadata."),
        ("metadata", {"\ud800": "x"}, "metadata."),
    ],
)
def test_a_part_of_a_field_is_named(field: str, value: object, named: str) -> None:
    """An error inside a map is named by its path."""
    problem = refused({"organization_id": "acme", field: value}, NewApiKey)
    assert problem.errors[0].field.startswith(named)
    assert "[key]" not in problem.errors[0].field
    assert "Value error" not in problem.errors[0].message


def test_no_key_is_repeated_where_a_name_belongs() -> None:
    """A key that was sent as the name of a field is not in the error."""
    key = "imported-plain-0123456789"
    for problem in (
        refused({key: 1}, NewPlan),
        refused({"organization_id": "acme", "permissions": {key: "read"}}, NewApiKey),
        refused(f'{{"{key}": 1, "{key}": 2}}'.encode(), NewPlan),
    ):
        assert "impo…" in str(problem.errors)
        assert key not in problem.body().decode()


def test_half_a_pair_of_limits_is_refused() -> None:
    """Rate and burst must be given together at creation; at a change the other may exist already."""
    for half in ({"rate": "1/s"}, {"burst": 5}, {"rate": None, "burst": 5}):
        assert "rate and burst" in refused({"name": "gold", **half}, NewPlan).detail
    assert parse_body(b'{"rate": "5/s"}', PlanChanges, optional=False).changes() == {"rate": "5/s"}


@pytest.mark.parametrize("model", [PlanChanges, OrganizationChanges, ApiKeyChanges])
def test_empty_change_is_rejected(model: type[BaseModel]) -> None:
    """A body that names nothing to change is rejected."""
    assert refused(b"{}", model).status == 422


def test_changes_are_what_was_sent() -> None:
    """An absent field is kept, a null field is cleared."""
    body = b'{"until": null, "burst": null, "anchor": 31}'
    assert parse_body(body, OrganizationChanges, optional=False).changes() == {
        "until": None,
        "burst": None,
        "anchor": 31,
    }
    body = b'{"expires_at": null, "rate": null, "permissions": {"customer": ["read"]}}'
    assert parse_body(body, ApiKeyChanges, optional=False).changes() == {
        "expires_at": None,
        "rate": None,
        "permissions": {"customer": frozenset({"read"})},
    }


def test_times_and_durations_are_read_exactly() -> None:
    """A time keeps its zone; a duration is seconds or a count and a unit."""
    for text in ("2030-01-31T12:00:00Z", "2030-01-31t14:00:00.000+02:00"):
        body = json.dumps({"grace": "1h", "expires_at": text}).encode()
        rotation = parse_body(body, Rotation, optional=False)
        assert rotation.expires_at == datetime(2030, 1, 31, 12, tzinfo=UTC)
        assert rotation.grace == timedelta(hours=1)
    assert parse_body(b'{"grace": 90}', Rotation, optional=False).grace == timedelta(seconds=90)
    assert parse_body(b'{"grace": 0}', Rotation, optional=False).grace == timedelta(0)
    assert parse_body(b"", Rotation, optional=True).grace == timedelta(hours=1)


@given(st.sampled_from(["name", "organization_id", "metadata", "expires_at", "key"]), st.text(min_size=20))
def test_no_refusal_repeats_a_value(field: str, text: str) -> None:
    """The value of a field, a key above all, is not in the error."""
    problem = refused({"organization_id": 1, field: [text]}, ImportedApiKey)
    assert text not in problem.body().decode()
    assert text not in repr(problem)
