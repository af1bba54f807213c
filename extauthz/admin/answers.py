"""What the API answers: the JSON forms of records, as models that OpenAPI describes and every answer is held to."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from extauthz.admin.fields import LimitsMode, Status, with_fields
from extauthz.core.limit_kinds import QUOTA_COLUMNS, QUOTAS
from extauthz.core.usage_range import By

_QUOTAS = dict.fromkeys(QUOTA_COLUMNS, int | None)
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)


@with_fields(_QUOTAS, behind="burst")
class Plan(_Answer):
    """Limits under a name, which organizations share."""

    id: str
    name: str
    rate: str | None
    burst: int | None
    created_at: Time
    updated_at: Time
    version: int = Field(description="Goes up with every change; the ETag.")


class Credits(_Answer):
    """A count of tokens that does not renew, of an organization or a key; null: without such a limit."""

    id: str = Field(description="Of the organization or the key.")
    granted: int | None = Field(description="In total, used or not.")
    used: int = Field(description="As saved, some seconds ago.")
    left: int | None
    version: int = Field(description="Of the organization or the key: goes up with every change of it; the ETag.")


class Plans(_Answer):
    """One page."""

    items: list[Plan]
    next: str | None


@with_fields(_QUOTAS, behind="burst")
class Organization(_Answer):
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


class Organizations(_Answer):
    """One page."""

    items: list[Organization]
    next: str | None


@with_fields(_QUOTAS, behind="burst")
class ApiKey(_Answer):
    """A key as it is stored: never the key itself. Its own limits hold inside its organization's."""

    id: str
    organization_id: str
    name: str
    handle: str = Field(description="How the key begins and ends.")
    permissions: Mapping[str, list[str]]
    status: Literal["active", "disabled", "expired", "revoked"]
    metadata: Mapping[str, str]
    rate: str | None
    burst: int | None
    created_at: Time
    updated_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    disabled_at: Time | None
    last_used_at: Time | None
    rotated_to: str | None = Field(description="The id of the key that took its place.")
    version: int = Field(description="Goes up with every change but last_used_at; the ETag.")


class ApiKeys(_Answer):
    """One page."""

    items: list[ApiKey]
    next: str | None


class CreatedApiKey(ApiKey):
    """A new key, with the key itself: this once."""

    key: str = Field(repr=False)


class RotatedApiKey(CreatedApiKey):
    """The new key, with the key itself: this once; and the old one, which ends."""

    old: ApiKey


class Pepper(_Answer):
    """How many keys hang on a pepper. One that no setting has any more leaves keys that can never be used."""

    id: str
    configured: bool = Field(description="The service has it; without it, its keys are never admitted.")
    signs: bool = Field(description="New keys are digested with it.")
    keys: int
    usable: int = Field(description="Those among them that are neither revoked, disabled nor expired.")


class Peppers(_Answer):
    """All of them, in the order of the setting."""

    items: list[Pepper]
    next: None


class _Tally(_Answer):
    allowed: int = Field(description="Requests.")
    cost: int = Field(description="What they were charged, in tokens.")
    rate_limited: int = Field(description="Requests refused by a bucket.")
    over_quota: int = Field(description="Requests refused by a quota.")


Date = Annotated[str, WithJsonSchema({"type": "string", "format": "date"})]


class PeriodUsage(_Tally):
    """What all keys used on a day or in a month."""

    from_: Date = Field(alias="from", description="The first day.")
    to: Date = Field(description="The last day; of a month under way today, at most the last one that was asked for.")


class KeyUsage(PeriodUsage):
    """What one key used."""

    api_key_id: str
    api_key_name: str | None = Field(description="Null: the key is gone.")


@with_fields({quota.name: int | None for quota in QUOTAS})
class Remaining(_Answer):
    """What the quotas leave now; null: without such a quota."""


class Usage(PeriodUsage):
    """What an organization used on days of its calendar, and a page of rows.

    They are its keys in the order of their ids, or days or months, the oldest first.
    """

    organization_id: str
    day: Date | None = Field(description="The day, where it is one alone.")
    remaining: Remaining = Field(description="Of the quotas of now, whichever day was asked for.")
    complete: bool = Field(description="False while Redis is away: what it counted in the last seconds is missing.")
    by: By
    items: list[KeyUsage] | list[PeriodUsage]
    next: str | None


class AuditEntry(_Answer):
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


class AuditLog(_Answer):
    """One page."""

    items: list[AuditEntry]
    next: str | None


class RejectedSample(_Answer):
    """One refused request; `path` is without query, `request_id` empty where the proxy gave none."""

    at: Time
    method: str
    path: str
    request_id: str


class Rejection(_Answer):
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


class Rejections(_Answer):
    """One page."""

    items: list[Rejection]
    next: str | None


class Decision(_Answer):
    """One check, as in the decision log; or `dropped` alone: so many decisions are missing before the next line."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "required": [],
            "anyOf": [{"required": ["time", "decision"]}, {"required": ["dropped"]}],
        },
    )

    time: Time
    decision: str
    reason: str = Field(description="More than the decision where there is more, as `revoked`.")
    status: int
    dialect: str
    method: str
    path: str = Field(description="Without its query.")
    host: str
    route: str | None
    organization_id: str | None
    api_key_id: str | None
    subject: str | None
    cost: int
    request_id: str
    trace_id: str | None
    duration_us: int
    degraded: bool
    worker: int
    dropped: int = Field(0, description="0 says that the stream lives.")


class Document(BaseModel):
    """An OpenAPI 3.1 document."""

    model_config = ConfigDict(extra="allow", frozen=True)

    openapi: str


class Mistake(_Answer):
    """What is wrong with one field, query parameter or header."""

    field: str
    message: str


class Problem(_Answer):
    """A refusal (RFC 9457). `code` is for programs, `detail` a sentence."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str
    errors: list[Mistake]
