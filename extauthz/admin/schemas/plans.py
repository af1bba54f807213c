"""Plans: what is sent of them, and what is answered."""

from pydantic import ConfigDict, Field

from extauthz.admin.fields import PlanName, with_fields
from extauthz.admin.schemas.base import AnswerModel, Time
from extauthz.admin.schemas.limits import (
    QUOTA_ANSWERS,
    RATE_WITH_BURST,
    Changes,
    LimitFields,
    NewLimits,
    without_defaults,
)


@with_fields(QUOTA_ANSWERS, behind="burst")
class Plan(AnswerModel):
    """Limits under a name, which organizations share."""

    id: str
    name: str
    rate: str | None
    burst: int | None
    created_at: Time
    updated_at: Time
    version: int = Field(description="Goes up with every change; the ETag.")


class Plans(AnswerModel):
    """One page."""

    items: list[Plan]
    next: str | None


class NewPlan(NewLimits):
    """Limits under a name. A limit that is absent or null does not exist."""

    model_config = ConfigDict(json_schema_extra=RATE_WITH_BURST)

    name: PlanName


class PlanChanges(Changes, LimitFields):
    """Limits to change; null removes one. In force for every organization of the plan."""

    model_config = ConfigDict(json_schema_extra=without_defaults)
