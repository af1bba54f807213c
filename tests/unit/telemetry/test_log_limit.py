"""Log events that clients can cause at will are limited to one a second."""

import pytest
import structlog

from extauthz.telemetry.log_limit import KINDS_MAX, SECONDS, Event, LogLimit


class Limited:
    """A limit with a clock of its own, and the events that passed it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.passed: list[Event] = []
        self.held = 0
        self._limit = LogLimit(holds=self._hold, clock=lambda: self.now)

    def _hold(self) -> None:
        self.held += 1

    def say(self, event: str, **fields: object) -> None:
        try:
            self.passed.append(self._limit(None, "", {"event": event, **fields}))
        except structlog.DropEvent:
            return

    def due(self, *, everything: bool = False) -> float | None:
        events, after = self._limit.due(everything=everything)
        self.passed += events
        return after


@pytest.fixture
def limited() -> Limited:
    return Limited()


def test_the_first_passes_and_the_newest_follows(limited: Limited) -> None:
    """The first of a kind passes at once, the newest of the others after a second, with the number of the rest."""
    for number in range(5):
        limited.say("storm", number=number)
    assert limited.passed == [{"event": "storm", "number": 0}]
    assert limited.held == 1
    assert limited.due() == SECONDS
    limited.now += SECONDS
    assert limited.due() is None
    assert limited.passed[1:] == [{"event": "storm", "number": 4, "suppressed": 3}]
    limited.say("storm", number=5)
    assert len(limited.passed) == 2


def test_a_minute_of_a_storm_is_a_line_a_second(limited: Limited) -> None:
    """However many events come, and none is missing from the count."""
    for number in range(6000):
        limited.say("storm", number=number)
        limited.now += 0.01
        limited.due()
    limited.due(everything=True)
    assert 58 <= len(limited.passed) <= 62
    assert sum(1 + int(event.get("suppressed", 0)) for event in limited.passed) == 6000


def test_rare_events_are_not_delayed(limited: Limited) -> None:
    """An event that comes once in a second passes at once, whatever else is delayed."""
    for _ in range(5):
        limited.say("seldom")
        limited.now += SECONDS
    assert [event["event"] for event in limited.passed] == ["seldom"] * 5


def test_the_last_state_is_logged_last(limited: Limited) -> None:
    """After a store goes and returns many times in a second, the log ends with its last state."""
    for _ in range(10):
        limited.say("store_away", store="redis")
        limited.say("store_up", store="redis")
    limited.say("store_away", store="redis")
    limited.now += SECONDS
    limited.due()
    assert [event["event"] for event in limited.passed] == ["store_away", "store_away"]


def test_kinds_do_not_hide_each_other(limited: Limited) -> None:
    """Another store, another library, another class of error is another kind."""
    limited.say("store_away", store="redis")
    limited.say("store_away", store="postgresql")
    limited.say("library", logger="asyncio", message="socket.accept() out of system resource", error="OSError")
    limited.say("library", logger="asyncio", message="Task exception was never retrieved\nfuture: <1>", error="OSError")
    limited.say("library", logger="asyncio", message="Task exception was never retrieved\nfuture: <2>", error="OSError")
    limited.say("bug", exc_info=ValueError("1"))
    limited.say("bug", exc_info=KeyError("1"))
    limited.say("bug", exc_info=(KeyError, KeyError("2"), None))
    assert len(limited.passed) == 6


def test_many_kinds_are_bounded(limited: Limited) -> None:
    """Kinds beyond the bound share one line a second."""
    for number in range(10 * KINDS_MAX):
        for _ in range(2):
            limited.say("library", logger=f"logger {number}")
    assert len(limited.passed) == KINDS_MAX + 1
    limited.now += SECONDS
    limited.due()
    assert len(limited.passed) == 2 * (KINDS_MAX + 1)


def test_each_death_of_a_worker_is_logged(limited: Limited) -> None:
    """Events that are bounded by themselves are not limited."""
    for _ in range(3):
        limited.say("worker_restarted", worker=1)
    assert len(limited.passed) == 3
