"""Filters of live tails, and preconditions of changes."""

from dataclasses import replace

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow, deny
from extauthz.core.preconditions import Precondition, Wanted, holds
from extauthz.core.reason import Reason
from extauthz.core.tail import DENIALS, TailFilter
from tests.unit.service.fakes import KEY

ALLOWED = CheckResult("envoy", None, 0.0, Allow(), subject=KEY)
DENIED = replace(ALLOWED, decision=deny(Reason.RATE_LIMITED))
UNKNOWN = CheckResult("envoy", None, 0.0, deny(Reason.NO_CREDENTIALS))


def admitted(**wanted: str) -> list[CheckResult]:
    return [result for result in (ALLOWED, DENIED, UNKNOWN) if TailFilter(**wanted).admits(result)]


def test_a_tail_shows_what_is_wanted() -> None:
    """An organization, a key, a decision or every denial; a request of an unknown caller belongs to no organization."""
    assert admitted() == [ALLOWED, DENIED, UNKNOWN]
    assert admitted(organization_id=KEY.organization_id) == admitted(api_key_id=KEY.id) == [ALLOWED, DENIED]
    assert admitted(organization_id="other") == admitted(api_key_id="other") == []
    assert admitted(decision=DENIALS) == [DENIED, UNKNOWN]
    assert admitted(decision="rate_limited", api_key_id=KEY.id) == [DENIED]
    assert admitted(decision="allow", api_key_id="other") == []


def test_versions_that_a_change_is_meant_for() -> None:
    """One version, one of several, none of several, or any; nothing holds of a thing that must be absent."""
    wanted: list[Wanted] = [None, 7, Precondition(), Precondition(match=[6, 7]), Precondition(none_match=[6])]
    assert all(holds(each, 7) for each in wanted)
    unwanted: list[Wanted] = [6, 0, Precondition(match=[6]), Precondition(match=[]), Precondition(none_match=[6, 7])]
    assert not any(holds(each, 7) for each in (*unwanted, Precondition(absent=True), Precondition([7], [7])))
