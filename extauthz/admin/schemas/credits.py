"""Credits: what is sent of them, and what is answered."""

from pydantic import Field

from extauthz.admin.fields import ChangeReason, CreditsAddition, CreditsTotal
from extauthz.admin.schemas.base import AnswerModel, Strict


class Credits(AnswerModel):
    """A count of tokens that does not renew, of an organization or a key; null: without such a limit."""

    id: str = Field(description="Of the organization or the key.")
    name: str
    granted: int | None = Field(description="In total, used or not.")
    used: int = Field(description="Until now; while Redis is away, until some seconds ago.")
    left: int | None
    version: int = Field(description="Of the organization or the key: goes up with every change of it; the ETag.")


class CreditsAdded(Strict):
    """Credits on top of what was granted; `reason` goes to the audit log."""

    add: CreditsAddition
    reason: ChangeReason = ""


class CreditsGranted(Strict):
    """What is granted in total, used or not; null: no such limit. `reason` goes to the audit log."""

    granted: CreditsTotal | None
    reason: ChangeReason = ""
