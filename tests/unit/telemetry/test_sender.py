"""The sender: a bounded queue, and a receiver that may hang, fail or be slow."""

import threading
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from extauthz.telemetry import decision_log, sender
from extauthz.telemetry.sender import QUEUE_MAX, Receiver, Sender

PATIENCE = 10.0  # seconds


class Scripted(Receiver[int]):
    """Takes items, or fails as `why` says; while `open` is not set it hangs in the middle of a request."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.taken: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Semaphore(0)
        self.aborted = threading.Event()

    def send(self, items: Sequence[int]) -> str:
        why = self.why
        self.asked.release()
        assert self.open.wait(PATIENCE)
        if not why:
            self.taken += items
        return why

    def abort(self) -> None:
        self.aborted.set()

    def until_asked(self) -> None:
        assert self.asked.acquire(timeout=PATIENCE)


async def test_all_is_sent_at_the_end() -> None:
    """In the order in which it came."""
    receiver = Scripted()
    sending = Sender(receiver, "spans")
    for number in range(1000):
        sending.put(number, 1)
    await sending.close()
    assert receiver.taken == list(range(1000))
    assert sending.dropped == 0


async def test_a_receiver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items beyond the queue are dropped and counted; the end does not wait for the hung request."""
    monkeypatch.setattr(sender, "STOP_TIMEOUT_SECONDS", 0.01)
    receiver = Scripted()
    receiver.open.clear()
    sending = Sender(receiver, "spans")
    sending.put(0, 3)
    receiver.until_asked()
    for number in range(QUEUE_MAX + 10):
        sending.put(number, 2)
    assert sending.dropped == 20
    with capture_logs() as log:
        await sending.close()
    assert receiver.taken == []
    assert receiver.aborted.is_set()
    assert log == [{"event": "spans_lost_at_stop", "log_level": "warning", "count": 2 * QUEUE_MAX}]
    assert sending.dropped == 20 + 2 * QUEUE_MAX
    receiver.open.set()


class Interrupting(int):
    """A count that is added up while the event loop drops an item."""

    sending: "Sender[int]"

    def __radd__(self, other: int) -> int:
        self.sending.dropped += 1
        return other + int(self)


async def test_what_both_threads_drop_is_counted() -> None:
    """None of it is lost where a request has failed at the moment at which the queue is full."""
    receiver = Scripted("HTTP 500")
    sending = Sender(receiver, "spans")
    count = Interrupting(5)
    count.sending = sending
    with capture_logs():
        sending.put(0, count)
        receiver.until_asked()
        await sending.close()
    assert sending.dropped == 6


async def test_a_receiver_that_fails() -> None:
    """Each outage is logged once, and its end once; lost items are counted."""
    with capture_logs() as log:
        receiver = Scripted("HTTP 500")
        sending = Sender(receiver, "spans")
        for number in range(3):
            receiver.why = "" if number == 2 else "HTTP 500"
            sending.put(number, 5)
            receiver.until_asked()
        await sending.close()
    assert receiver.taken == [2]
    assert sending.dropped == 10
    assert [(each["event"], each.get("error")) for each in log] == [
        ("spans_not_sent", "HTTP 500"),
        ("spans_sent_again", None),
    ]


class Retrying(Scripted):
    """Fails at once the first time; then it waits between two attempts, until it has to end."""

    def send(self, items: Sequence[int]) -> str:
        self.asked.release()
        if items[0] > 0:
            assert self.aborted.wait(PATIENCE)
        return "ConnectionError"


async def test_the_end_waits_for_no_attempts_of_a_receiver_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that would be retried for seconds is stopped before it is waited for."""
    monkeypatch.setattr(sender, "STOP_TIMEOUT_SECONDS", 2 * PATIENCE)
    receiver = Retrying()
    sending = Sender(receiver, "spans")
    for number in range(2):
        sending.put(number, 1)
        receiver.until_asked()
    await sending.close()
    assert sending.dropped == 2


def test_all_ends_together() -> None:
    """An endpoint that hangs delays a stop by no more than 2 seconds, if spans, metrics and decisions go to it."""
    assert 2 * sender.STOP_TIMEOUT_SECONDS + decision_log.FINISH_SECONDS < 2
