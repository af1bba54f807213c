"""CheckResult: what one check asked, found and decided, for answers and for everything that observes checks."""

from dataclasses import dataclass

from extauthz.core.decision import Decision, deny
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match
from extauthz.core.subject import Subject
from extauthz.core.trace import Trace, parse_traceparent

# Until a step of the check says otherwise.
_UNDECIDED = deny(Reason.BAD_PROXY_REQUEST)


@dataclass(slots=True)  # not frozen: the steps of a check fill it in, and one is made for every check
class CheckResult:
    """What one check asked, found and decided.

    `request` is None where the proxy's headers do not say what is asked. `at` is the arrival in Unix seconds, `seconds`
    the time from then to the decision. `route` is the route that matched, `subject` what the credential belongs to,
    also where it is refused. `why` says more than the decision does where there is more (`revoked`, `expired`,
    `disabled`, ...). `identified_after` is the seconds from the arrival until limits were asked, 0 where they were not.
    `trace` is None where the check is not recorded.
    """

    dialect: str
    request: CheckRequest | None
    at: float
    decision: Decision = _UNDECIDED
    route: Match | None = None
    subject: Subject | None = None
    why: str = ""
    seconds: float = 0.0
    identified_after: float = 0.0
    trace: Trace | None = None

    @property
    def trace_id(self) -> str:
        """The trace that the check is part of, 32 hex digits; empty where there is none, or where it was not read."""
        if self.trace is not None:
            return self.trace.trace_id
        parent = None if self.request is None else parse_traceparent(self.request.traceparent)
        return "" if parent is None else parent.trace_id
