"""What management shows of keys and organizations, and which metadata are valid."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from extauthz.core.limits import Limits, Rate
from extauthz.core.management import KeyTerms, NewKey, Plan, looks_like_id, parse_metadata
from extauthz.core.permissions import FULL_ACCESS, mistakes
from tests.refusals import refusal
from tests.unit.core.test_json_forms import ACME, KEY

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES: list[tuple[dict[str, Any], str]] = [
    ({}, "active"),
    ({"expires_at": NOW + timedelta(microseconds=1)}, "active"),
    ({"expires_at": NOW}, "expired"),
    ({"expires_at": NOW, "disabled_at": NOW}, "disabled"),
    ({"expires_at": NOW, "disabled_at": NOW, "revoked_at": NOW + timedelta(days=1)}, "revoked"),
]


def test_the_status_of_a_key() -> None:
    """A revoked key is revoked at any time; the JSON form agrees."""
    for changes, status in STATUSES:
        key = replace(KEY, **changes)
        assert key.status(NOW) == status
        assert key.to_json(NOW)["status"] == status


def test_a_new_key_shows_no_digest() -> None:
    """A new key can be logged before it is stored."""
    assert "ab" * 32 not in repr(NewKey("2", KeyTerms(), ("ab" * 32,), "p1", "h"))


def test_valid_metadata() -> None:
    """The bounds are inclusive."""
    for good in ({}, {"a": ""}, {"é" * 64: "✓" * 500}, {str(number): "" for number in range(50)}, {"a\nb": "\t"}):
        assert parse_metadata(good) == good


INVALID: list[object] = [
    *(None, [], "a", {"": "a"}, {"a" * 65: "b"}, {"a": "b" * 501}, {"a": None}, {"a": 1}, {"a": ["b"]}, {1: "b"}),
    *({"a": "\0"}, {"\0": "a"}, {"a": "\udfff"}, {"\ud800": "a"}, {str(number): "" for number in range(51)}),
]


def test_invalid_metadata() -> None:
    """Invalid metadata are rejected before the database has to."""
    assert [
        bad for bad in INVALID if not refusal(parse_metadata, bad).startswith(("metadata", "a name", "a value"))
    ] == []


def test_mistakes_of_a_map_are_named() -> None:
    """Unknown names and modes are listed, readable whatever they hold; valid maps give nothing."""
    assert mistakes(FULL_ACCESS) == []
    wrong = mistakes({"a b": frozenset({"admin"}), "ok": frozenset({"read", "x\n"}), "**": frozenset()})
    assert [text.partition(" (got ")[2] for text in wrong] == ["'a b')", "'**')", "'admin')", "'x\\n')"]
    assert wrong[2].startswith("a mode must be read or write (")


def test_ids_are_told_from_names() -> None:
    """In either case of their digits, and whole."""
    id_ = "0b5c4f5e-8a52-4c58-9d5e-0f4f6a1f7a10"
    assert looks_like_id(id_)
    assert looks_like_id(id_.upper())
    assert not any(map(looks_like_id, ("", "acme", id_[1:], f"{id_}0", id_.replace("-", ""), f"{id_}\n")))


def test_an_organizations_own_limits_on_a_plan() -> None:
    """Its own limits win; a rate without a bucket fits no plan."""
    overrides: dict[str, object] = {"rate": "1/s", "burst": None, "daily_quota": 0, "monthly_quota": None}
    acme = replace(ACME, overrides=overrides, until=NOW)
    gold = Plan("3", "gold", Limits(Rate(9, 1), 9, 9, 9), NOW, NOW, 1)
    assert acme.limits_on(gold) == acme.limits_now(gold, NOW - timedelta(seconds=1)) == Limits(Rate(1, 1), 9, 0, 9)
    assert acme.limits_now(gold, NOW) == gold.limits
    assert replace(acme, until=None).limits_now(gold, NOW) == acme.limits_on(gold)
    with pytest.raises(ValueError, match="rate and burst go together"):
        acme.limits_on(replace(gold, limits=Limits()))
