"""Refused requests: what is asked, and what is answered."""

from pydantic import Field

from extauthz.admin.fields import KeyId, Reference, RoutePattern, Since
from extauthz.admin.schemas.base import AnswerModel, OrganizationPageQuery, Time
from extauthz.core.rejections import RejectionFilter


class RejectedSample(AnswerModel):
    """One refused request; `path` is without query, `request_id` empty where the proxy gave none."""

    at: Time
    method: str
    path: str
    request_id: str


class Rejection(AnswerModel):
    """Refusals of one kind in five minutes; `samples` are the last of them, newest first."""

    from_: Time = Field(alias="from", description="When the five minutes begin.")
    decision: str
    reason: str = Field(description="More than the decision where there is more, as `revoked`.")
    route: str | None = Field(description="The path of the route; null: none matched; `other`: of several.")
    organization_id: str | None
    api_key_id: str | None
    api_key_name: str | None
    address: str | None = Field(description="The group of client addresses where no organization is known.")
    count: int
    samples: list[RejectedSample]


class Rejections(AnswerModel):
    """One page."""

    items: list[Rejection]
    next: str | None


class RejectionsQuery(OrganizationPageQuery):
    """Which refusals: of an organization, or of clients that none is known of, in a time, of one kind."""

    api_key_id: KeyId | None = Field(None, description="The id of a key.")
    decision: Reference | None = Field(None, description="A refusal, as `permission_denied`.")
    route: RoutePattern | None = Field(
        None, description="The path of a route, as the configuration has it; or `other`."
    )
    since: Since | None = Field(None, description="A time, or a duration ago such as 24h.")
    until: Since | None = Field(None, description="The same; what began before it.")

    def only(self) -> RejectionFilter:
        """The filter beside the organization."""
        return RejectionFilter(self.since, self.until, self.api_key_id, self.decision, self.route)
