"""What is sent to the API: bodies and query parameters, as strict models."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from extauthz.admin.fields import (
    Anchor,
    Burst,
    ChangeReason,
    CreditsAddition,
    CreditsTotal,
    Cursor,
    Day,
    Grace,
    KeyId,
    KeyName,
    LimitsMode,
    Metadata,
    Moment,
    Month,
    OrganizationName,
    PermissionMap,
    PlanName,
    Quota,
    RateText,
    Reference,
    RoutePattern,
    Since,
    Status,
    TimeZone,
    TruthInQuery,
    WholeInQuery,
    with_fields,
)
from extauthz.core.limit_kinds import LIMIT_COLUMNS, QUOTA_COLUMNS
from extauthz.core.limits import Limits
from extauthz.core.management import AuditFilter, KeyTerms
from extauthz.core.permissions import ANY_RESOURCE, parse_permissions
from extauthz.core.rejections import RejectionFilter
from extauthz.core.tail import TAIL_DECISIONS
from extauthz.core.usage_range import By, UsageRange

# Rate and burst are a pair: both or none.
_PAIR: dict[str, Any] = {
    "anyOf": [
        {"required": ["rate", "burst"], "properties": {"rate": {"type": "string"}, "burst": {"type": "integer"}}},
        {"properties": {"rate": {"type": "null"}, "burst": {"type": "null"}}},
    ]
}


def _something(schema: dict[str, Any]) -> None:
    """Changes name at least one thing, and what they do not name stays as it is: there are no defaults."""
    schema["minProperties"] = 1
    for described in schema["properties"].values():
        described.pop("default", None)


GRACE = timedelta(hours=1)  # where none is named, as on the command line


class Strict(BaseModel):
    """No other field, and no other type."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, frozen=True)


class Nothing(Strict):
    """Says nothing."""


@with_fields(dict.fromkeys(QUOTA_COLUMNS, Quota | None), default=None)
class _LimitFields(Strict):
    rate: RateText | None = None
    burst: Burst | None = None


class _Limits(_LimitFields):
    def limit_record(self) -> Mapping[str, object]:
        """All limits by their names."""
        return {name: getattr(self, name) for name in LIMIT_COLUMNS}


class _NewLimits(_Limits):
    @model_validator(mode="after")
    def _pair(self) -> "_NewLimits":
        if (self.rate is None) != (self.burst is None):
            raise ValueError("rate and burst go together: both or none")
        return self


class _Changes(Strict):
    @model_validator(mode="after")
    def _not_empty(self) -> "_Changes":
        if not self.model_fields_set:
            raise ValueError("the body names nothing to change")
        return self

    def changes(self) -> dict[str, object]:
        """What was sent, and nothing else."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class CreditsAdded(Strict):
    """Credits on top of what was granted; `reason` goes to the audit log."""

    add: CreditsAddition
    reason: ChangeReason = ""


class CreditsGranted(Strict):
    """What is granted in total, used or not; null: no such limit. `reason` goes to the audit log."""

    granted: CreditsTotal | None
    reason: ChangeReason = ""


class NewPlan(_NewLimits):
    """Limits under a name. A limit that is absent or null does not exist."""

    model_config = ConfigDict(json_schema_extra=_PAIR)

    name: PlanName


class PlanChanges(_Changes, _Limits):
    """Limits to change; null removes one. In force for every organization of the plan."""

    model_config = ConfigDict(json_schema_extra=_something)


class NewOrganization(Strict):
    """A new tenant; without a plan it gets the one called `default`. Its calendar holds from its start."""

    name: OrganizationName
    plan: PlanName = "default"
    timezone: TimeZone = "UTC"
    anchor: Anchor = 1


class OrganizationChanges(_Changes, _Limits):
    """What to change. Limits are the organization's own in place of its plan's; null is the plan's again.

    From `until` on the plan's count; null: without an end.
    """

    model_config = ConfigDict(json_schema_extra=_something)

    name: OrganizationName = Field(default_factory=str)
    plan: PlanName = Field(default_factory=str)
    status: Status = Field(default_factory=lambda: "active")
    until: Moment | None = None
    limits_mode: LimitsMode = Field(default_factory=lambda: "enforce")
    timezone: TimeZone = Field(default_factory=str)
    anchor: Anchor = Field(default_factory=int)


def _everything() -> dict[str, list[Literal["read", "write"]]]:
    return {ANY_RESOURCE: ["read", "write"]}


class NewApiKey(_NewLimits):
    """A key to make. Its own limits hold inside its organization's."""

    model_config = ConfigDict(json_schema_extra=_PAIR)

    organization_id: Reference = Field(description="The id or the name of the organization.")
    name: KeyName = ""
    permissions: PermissionMap = Field(default_factory=_everything)
    expires_at: Moment | None = None
    metadata: Metadata = Field(default_factory=dict)

    def terms(self) -> KeyTerms:
        """What its owner says of the key."""
        return KeyTerms(
            name=self.name,
            permissions=parse_permissions(dict(self.permissions)),
            expires_at=self.expires_at,
            metadata=self.metadata,
            limits=Limits.from_record(self.limit_record()),
        )


class ImportedApiKey(NewApiKey):
    """A key that another system issued."""

    key: str = Field(
        min_length=16,
        repr=False,
        description="The key as its clients send it. Only its digest is kept.",
        json_schema_extra={"pattern": r"^[A-Za-z0-9._~+/-]{16,}=*$"},  # a mistake is told without the key
    )


class ApiKeyChanges(_Changes, _Limits):
    """What to change; null removes an expiry or a limit."""

    model_config = ConfigDict(json_schema_extra=_something)

    name: KeyName = Field(default_factory=str)
    permissions: PermissionMap = Field(default_factory=dict)
    expires_at: Moment | None = None
    metadata: Metadata = Field(default_factory=dict)

    def changes(self) -> dict[str, object]:
        """What was sent, as the service takes it."""
        changes = super().changes()
        if "permissions" in changes:
            changes["permissions"] = parse_permissions(dict(self.permissions))
        return changes


class Rotation(Strict):
    """How the old key ends, and when the new one does."""

    grace: Grace = Field(default_factory=lambda: GRACE)
    expires_at: Moment | None = Field(
        default=None,
        description="When the new key ends; by default it lives as long from now as the old one was given.",
    )


class Revocation(Strict):
    """Whether even the last usable key of an organization is ended."""

    last: bool = False


class RevocationQuery(Strict):
    """The same as a query parameter."""

    last: TruthInQuery = Field(False, description="Revoke even the last usable key of the organization.")


class PageQuery(Strict):
    """Which part of a list, newest first."""

    limit: WholeInQuery = Field(50, ge=1, le=200, description="How many at most.")
    cursor: Cursor | None = Field(None, description="`next` of the page before.")


class OrganizationPageQuery(PageQuery):
    """Which part of a list, perhaps of one organization alone."""

    organization_id: Reference | None = Field(None, description="The id or the name of an organization.")


class AuditQuery(OrganizationPageQuery):
    """Which changes: those of one organization, plan or key alone, by one actor, or from a moment on."""

    plan: Reference | None = Field(None, description="The id or the name of a plan.")
    api_key_id: KeyId | None = Field(None, description="The id of a key.")
    by: Reference | None = Field(None, description="An actor, as `token:ops`, or what stands behind its colon.")
    since: Since | None = Field(None, description="A time, or a duration ago such as 24h.")

    def only(self) -> AuditFilter:
        """The filter beside the organization."""
        return AuditFilter(self.plan, self.api_key_id, self.by, self.since)


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


class TailQuery(Strict):
    """Which decisions: of an organization, of a key, of one kind."""

    organization_id: Reference | None = Field(None, description="The id or the name of an organization.")
    api_key_id: KeyId | None = Field(None, description="The id of a key.")
    decision: Literal[TAIL_DECISIONS] | None = Field(  # type: ignore[valid-type]  # a tuple of texts, made elsewhere
        None, description="A decision, or `denials`: every one but `allow`."
    )


class UsageQuery(PageQuery):
    """Whose usage, and of which days: one day, a month, or from one day to another."""

    organization_id: Reference = Field(description="The id or the name of the organization.")
    day: Day | None = Field(None, description="A day of its calendar, which has begun; by default today.")
    month: Month | None = Field(None, description="Its month that begins in a month of the year, as 2030-01.")
    from_: Day | None = Field(None, alias="from", description="The first of several days.")
    to: Day | None = Field(None, description="The last of them; by default today.")
    by: By = Field("key", description="Whether there is a row for each day, month or key.")

    def days(self) -> UsageRange:
        """The days, which may contradict each other."""
        return UsageRange(self.day, self.month, self.from_, self.to)
