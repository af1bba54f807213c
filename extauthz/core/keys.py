"""API keys: what a record says, and whether it is admitted now."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from extauthz.core.changes import EntityRef
from extauthz.core.limits import Limits
from extauthz.core.permissions import Permissions, parse_permissions, storable
from extauthz.core.subject import Subject, SubjectKind
from extauthz.core.tenants import Tenant, header_safe, read_version, seconds

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey(Subject):
    """A key as a check needs it: never the key itself, only what its owner said of it.

    All times are Unix seconds; `expires_at`, `revoked_at` and `disabled_at` None is never. `tenant` is the organization
    as it was when the key was read from PostgreSQL, `version` the number of that read (see `core.changes`), `digest`
    what the key is stored under.
    """

    kind: ClassVar[SubjectKind] = "api_key"
    expires_at: float | None
    revoked_at: float | None
    disabled_at: float | None
    loaded_at: float
    version: int
    tenant: Tenant
    digest: str = field(repr=False)

    @property
    def made_of(self) -> tuple[EntityRef, ...]:
        """What must not have changed since this was read.

        A managed organization, which has a plan, has a record of its own; an external one comes with the key.
        """
        if self.tenant.plan_id:
            return (EntityRef("api_key", self.id),)
        return (EntityRef("api_key", self.id), EntityRef("organization", self.organization_id))

    @property
    def ends_at(self) -> float:
        """Unix seconds from which on the key may not be used. Revoked is revoked, whatever any clock says."""
        if self.revoked_at is not None or self.disabled_at is not None:
            return -inf
        return inf if self.expires_at is None else self.expires_at

    def admits(self, now: float) -> bool:
        """Whether the key may be used at `now` (Unix seconds)."""
        return now < self.ends_at

    def to_record(self) -> dict[str, object]:
        """The JSON object that caches keep."""
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "permissions": storable(self.permissions),
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
            "disabled_at": self.disabled_at,
            "loaded_at": self.loaded_at,
            "version": self.version,
            "hash": self.digest,
            "limits": self.limits.to_cache(),
            "tenant": self.tenant.to_record(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "ApiKey":
        """The key of a record from a store; ValueError says what is wrong in it, never the value."""
        tenant_record = record.get("tenant")
        if not isinstance(tenant_record, dict):
            raise ValueError("tenant must be an object")
        limits = record.get("limits")
        if not isinstance(limits, dict):
            raise ValueError("limits must be an object")
        return cls.of(
            record,
            permissions=parse_permissions(record.get("permissions")),
            limits=Limits.from_record(limits),
            tenant=Tenant.from_record(tenant_record),
        )

    @classmethod
    def of(cls, record: Mapping[str, object], *, permissions: Permissions, limits: Limits, tenant: Tenant) -> "ApiKey":
        """The key of a record whose parts were read before; ValueError says what is wrong in the rest."""
        organization_id = header_safe(record, "organization_id")
        if organization_id != tenant.id:
            raise ValueError("tenant must be the key's organization")
        digest = record.get("hash")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise ValueError("hash must be 64 hex digits")
        return cls(
            id=header_safe(record, "id"),
            organization_id=tenant.id,  # the same text, kept once
            permissions=permissions,
            expires_at=_time_or_never(record, "expires_at"),
            revoked_at=_time_or_never(record, "revoked_at"),
            disabled_at=_time_or_never(record, "disabled_at"),
            loaded_at=seconds(record, "loaded_at"),
            version=read_version(record),
            tenant=tenant,
            limits=limits,
            digest=digest,
        )


def ended_by(key: ApiKey) -> str:
    """Why a key admits nothing: `revoked`, `disabled` or `expired`."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.disabled_at is None else "disabled"


def _time_or_never(record: Mapping[str, object], name: str) -> float | None:
    """A time that may be null, but not missing: a record without `revoked_at` must not pass for a key in force."""
    if name not in record:
        raise ValueError(f"{name} is missing")
    return None if record[name] is None else seconds(record, name)
