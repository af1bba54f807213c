"""The negative cache: how long a name is refused, and how many are."""

from time import monotonic

import pytest

from extauthz.service.directory import negative_cache as module
from extauthz.service.directory.negative_cache import NegativeCache


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_name_is_refused_for_a_second(clock: list[float]) -> None:
    """An unknown key is read again a second after its read, or after any change."""
    refused = NegativeCache()
    assert not refused.holds("a", 0)
    refused.add("a", read_at=99.5, epoch=3)
    assert refused.holds("a", 3)
    clock[0] = 100.49
    assert refused.holds("a", 3)
    clock[0] = 100.5
    assert not refused.holds("a", 3)
    assert len(refused) == 0
    refused.add("a", read_at=100.4, epoch=3)
    assert not refused.holds("a", 4)
    refused.add("a", read_at=100.4, epoch=3)  # a message came while PostgreSQL was read
    assert not refused.holds("a", 4)


def test_oldest_names_are_dropped() -> None:
    """Where there are too many names, the oldest are read again."""
    refused = NegativeCache(at_most=2, ttl=1000)
    for name in ("a", "b", "a", "c"):
        refused.add(name, read_at=monotonic(), epoch=0)
    assert [refused.holds(name, 0) for name in "abc"] == [True, False, True]


def test_a_million_names_do_not_grow_it() -> None:
    """However many unknown keys are tried, the number of names is bounded."""
    refused = NegativeCache(at_most=500)
    for number in range(20_000):
        refused.add(str(number), read_at=0.0, epoch=0)
        assert len(refused) <= 500
