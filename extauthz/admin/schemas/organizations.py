"""Organizations: what is sent of them, and what is answered."""

from pydantic import ConfigDict, Field

from extauthz.admin.fields import Anchor, LimitsMode, Moment, OrganizationName, PlanName, Status, TimeZone, with_fields
from extauthz.admin.schemas.base import AnswerModel, Strict, Time
from extauthz.admin.schemas.limits import QUOTA_ANSWERS, Changes, LimitFields, without_defaults


@with_fields(QUOTA_ANSWERS, behind="burst")
class Organization(AnswerModel):
    """A tenant. Limits are its own; null is its plan's."""

    id: str
    name: str
    plan: str = Field(description="The name of its plan.")
    status: Status
    rate: str | None
    burst: int | None
    until: Time | None = Field(description="When its own limits end, and its plan's count.")
    limits_mode: LimitsMode
    timezone: str = Field(description="Where its days begin.")
    timezone_from: Time | None = Field(description="From when its days begin there; null: since it was made.")
    anchor: int = Field(description="The day on which its months begin; in a shorter month the last one.")
    anchor_from: Time | None = Field(description="From when its months begin on it; null: since it was made.")
    created_at: Time
    updated_at: Time
    version: int = Field(description="Goes up with every change; the ETag.")


class Organizations(AnswerModel):
    """One page."""

    items: list[Organization]
    next: str | None


class NewOrganization(Strict):
    """A new tenant; without a plan it gets the one called `default`. Its calendar holds from its start."""

    name: OrganizationName
    plan: PlanName = "default"
    timezone: TimeZone = "UTC"
    anchor: Anchor = 1


class OrganizationChanges(Changes, LimitFields):
    """What to change. Limits are the organization's own in place of its plan's; null is the plan's again.

    From `until` on the plan's count; null: without an end.
    """

    model_config = ConfigDict(json_schema_extra=without_defaults)

    name: OrganizationName = Field(default_factory=str)
    plan: PlanName = Field(default_factory=str)
    status: Status = Field(default_factory=lambda: "active")
    until: Moment | None = None
    limits_mode: LimitsMode = Field(default_factory=lambda: "enforce")
    timezone: TimeZone = Field(default_factory=str)
    anchor: Anchor = Field(default_factory=int)
