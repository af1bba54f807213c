"""Keys and peppers: what is sent of them, and what is answered."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from pydantic import ConfigDict, Field

from extauthz.admin.fields import Grace, KeyName, Metadata, Moment, PermissionMap, Reference, TruthInQuery, with_fields
from extauthz.admin.schemas.base import AnswerModel, Strict, Time
from extauthz.admin.schemas.limits import (
    QUOTA_ANSWERS,
    RATE_WITH_BURST,
    Changes,
    LimitFields,
    NewLimits,
    without_defaults,
)
from extauthz.core.limits import Limits
from extauthz.core.management import KeyTerms
from extauthz.core.permissions import ANY_RESOURCE, parse_permissions


@with_fields(QUOTA_ANSWERS, behind="burst")
class ApiKey(AnswerModel):
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


class ApiKeys(AnswerModel):
    """One page."""

    items: list[ApiKey]
    next: str | None


class CreatedApiKey(ApiKey):
    """A new key, with the key itself: this once."""

    key: str = Field(repr=False)


class RotatedApiKey(CreatedApiKey):
    """The new key, with the key itself: this once; and the old one, which ends."""

    old: ApiKey


class Pepper(AnswerModel):
    """How many keys depend on a pepper. One that no setting has any more leaves keys that can never be used."""

    id: str
    configured: bool = Field(description="The service has it; without it, its keys are never admitted.")
    signs: bool = Field(description="New keys are digested with it.")
    keys: int
    usable: int = Field(description="Those among them that are neither revoked, disabled nor expired.")


class Peppers(AnswerModel):
    """All of them, in the order of the setting."""

    items: list[Pepper]
    next: None


def _everything() -> dict[str, list[Literal["read", "write"]]]:
    return {ANY_RESOURCE: ["read", "write"]}


class NewApiKey(NewLimits):
    """A key to make. Its own limits hold inside its organization's."""

    model_config = ConfigDict(json_schema_extra=RATE_WITH_BURST)

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


class ApiKeyChanges(Changes, LimitFields):
    """What to change; null removes an expiry or a limit."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

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


GRACE = timedelta(hours=1)  # where none is named, as on the command line


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
