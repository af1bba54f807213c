"""The audit log: what is asked, and what is answered."""

from collections.abc import Mapping

from pydantic import Field

from extauthz.admin.fields import KeyId, Reference, Since
from extauthz.admin.schemas.base import AnswerModel, OrganizationPageQuery, Time
from extauthz.core.management import AuditFilter


class AuditEntry(AnswerModel):
    """One change. `diff` holds [before, after] of every field that changed, and no digest."""

    id: int
    at: Time
    actor: str = Field(description="`token:` and a token's name, `cli:` and a user's, or `sql:` and a database role.")
    role: str = Field(description="The role that was logged in to PostgreSQL.")
    action: str
    kind: str
    subject_id: str
    subject_name: str | None = Field(description="What it is called; of what is gone, what this change says of that.")
    organization_id: str | None
    diff: Mapping[str, list[object]]
    reason: str | None = Field(description="Why, where the actor has said so.")


class AuditLog(AnswerModel):
    """One page."""

    items: list[AuditEntry]
    next: str | None


class AuditQuery(OrganizationPageQuery):
    """Which changes: those of one organization, plan or key alone, by one actor, or from a moment on."""

    plan: Reference | None = Field(None, description="The id or the name of a plan.")
    api_key_id: KeyId | None = Field(None, description="The id of a key.")
    by: Reference | None = Field(None, description="An actor, as `token:ops`, or what stands behind its colon.")
    since: Since | None = Field(None, description="A time, or a duration ago such as 24h.")

    def only(self) -> AuditFilter:
        """The filter beside the organization."""
        return AuditFilter(self.plan, self.api_key_id, self.by, self.since)
