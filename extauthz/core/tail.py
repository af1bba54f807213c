"""Which decisions a live tail shows."""

from typing import NamedTuple

from extauthz.core.check_result import CheckResult
from extauthz.core.reason import Reason

DENIALS = "denials"  # in place of a decision: every one but `allow`
TAIL_DECISIONS = (*(reason.value for reason in Reason), DENIALS)


class TailFilter(NamedTuple):
    """Which decisions are wanted: of an organization, of a key, of a kind; None: any."""

    organization_id: str | None = None
    api_key_id: str | None = None
    decision: str | None = None

    def admits(self, result: CheckResult) -> bool:
        """Whether this one is wanted."""
        subject, reason = result.subject, result.decision.reason
        if self.organization_id is not None and (subject is None or subject.organization_id != self.organization_id):
            return False
        if self.api_key_id is not None and (subject is None or subject.id != self.api_key_id):
            return False
        if self.decision == DENIALS:
            return reason is not Reason.ALLOW
        return self.decision is None or reason.value == self.decision
