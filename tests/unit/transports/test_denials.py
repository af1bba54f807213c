"""Denials are gathered and reported in steps, each once."""

from collections import Counter
from collections.abc import Sequence

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import deny
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.service.check.remembered import Remembered
from extauthz.transports.http.denials import GROUPS_MAX, Denials
from extauthz.transports.http.dialect import Wording
from extauthz.transports.http.dialects.envoy import Envoy
from tests.servers.serving import question
from tests.unit.service.fakes import NOW


class Told:
    """A DenialObserver that records its calls."""

    def __init__(self) -> None:
        self.times: Counter[Reason] = Counter()
        self.samples = 0
        self.came_at: list[float] = []

    def denied(self, result: CheckResult, times: int, requests: Sequence[CheckRequest]) -> None:
        self.times[result.decision.reason] += times
        self.samples += len(requests)
        self.came_at += [request.now for request in requests]


def denials(told: Told) -> Denials:
    return Denials(
        Envoy(Wording()), lambda _, now: CheckRequest("envoy", "GET", "/", "h", (), "", "", now, now, now), told
    )


def test_cancelled_report_is_completed_by_the_next() -> None:
    """A report that is cancelled midway, as at the end of a process, loses nothing and repeats nothing."""
    told = Told()
    gathered = denials(told)
    reasons = [Reason.NO_CREDENTIALS, Reason.MALFORMED_CREDENTIALS, Reason.ROUTE_NOT_ALLOWED]
    for reason in reasons:
        found = Remembered(None, deny(reason))
        for _ in range(3):
            gathered.note(found, reason, question("envoy", "/"), NOW)
    next(gathered.count())
    assert sum(told.times.values()) == 3
    gathered.note(Remembered(None, deny(Reason.RATE_LIMITED)), Reason.RATE_LIMITED, question("envoy", "/"), NOW)
    assert len(list(gathered.count())) == len(reasons)  # two of before, and the new one
    assert told.times == {**dict.fromkeys(reasons, 3), Reason.RATE_LIMITED: 1}
    assert told.samples == 10
    assert list(gathered.count()) == []


def test_oldest_groups_are_reported_first() -> None:
    """Also where a group is gathered again before its report: its last requests are kept."""
    told = Told()
    gathered = denials(told)
    one, other = Remembered(None), Remembered(None)
    for found in (one, other):
        gathered.note(found, Reason.NO_CREDENTIALS, question("envoy", "/"), NOW)
    next(gathered.count())
    gathered.note(other, Reason.NO_CREDENTIALS, question("envoy", "/"), NOW + 1)
    assert len(list(gathered.count())) == 2
    assert told.came_at == [NOW, NOW, NOW + 1]


def test_many_groups_are_reported_at_once() -> None:
    """Memory stays bounded where clients make a group with each request."""
    told = Told()
    gathered = denials(told)
    for _ in range(GROUPS_MAX + 1):
        gathered.note(Remembered(None), Reason.NO_CREDENTIALS, question("envoy", "/"), NOW)
    assert told.times == {Reason.NO_CREDENTIALS: GROUPS_MAX}
    assert len(list(gathered.count())) == 1
