"""CheckResult: what one check asked, found and decided, for answers and for everything that observes checks."""

from dataclasses import dataclass

from extauthz.core.decision import Decision, deny
from extauthz.core.keys import ApiKey
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match
from extauthz.core.trace import parse_traceparent

# Until a step of the check says otherwise.
_UNDECIDED = deny(Reason.BAD_PROXY_REQUEST)


@dataclass(slots=True)  # not frozen: the steps of a check fill it in, and one is made for every check
class CheckResult:
    """What one check asked, found and decided.

    `request` is None where the proxy's headers do not say what is asked. `at` is the arrival in Unix seconds, `seconds`
    the time from then to the decision. `route` is the route that matched, `key` the key that was found, also where it
    is refused. `why` says more than the decision does where there is more (`revoked`, `expired`, `disabled`, ...).
    `identified_after` is the seconds from the arrival until limits were asked, 0 where they were not.
    `recorded_trace` is the trace (32 hex digits) that a span of this check is recorded in, empty where none is; it is
    set before observers are told.
    """

    dialect: str
    request: CheckRequest | None
    at: float
    decision: Decision = _UNDECIDED
    route: Match | None = None
    key: ApiKey | None = None
    why: str = ""
    seconds: float = 0.0
    identified_after: float = 0.0
    recorded_trace: str = ""

    @property
    def trace_id(self) -> str:
        """The trace that the check is part of, 32 hex digits; empty where there is none, or where it was not read."""
        parent = None if self.request is None else parse_traceparent(self.request.traceparent)
        return "" if parent is None else parent.trace_id
