"""What management shows: plans, organizations and keys as they are stored, with a JSON form for scripts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from extauthz.core.limits import Limits
from extauthz.core.permissions import Permissions, storable


@dataclass(frozen=True, slots=True)
class Plan:
    """Limits under a name."""

    id: str
    name: str
    limits: Limits
    created_at: datetime

    def to_json(self) -> dict[str, object]:
        """One JSON object; times in ISO 8601."""
        return {"id": self.id, "name": self.name, **self.limits.to_record(), "created_at": self.created_at.isoformat()}


@dataclass(frozen=True, slots=True)
class Organization:
    """A tenant. `overrides` are its own limits where they differ from the plan's."""

    id: str
    name: str
    plan: str
    status: str
    overrides: Mapping[str, object]
    created_at: datetime

    def to_json(self) -> dict[str, object]:
        """One JSON object; times in ISO 8601, an override that is null is the plan's."""
        return {
            "id": self.id,
            "name": self.name,
            "plan": self.plan,
            "status": self.status,
            **self.overrides,
            "created_at": self.created_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is stored of a key that was just made: `digest` (64 hex digits) was made with the pepper `pepper_id`."""

    organization_id: str
    name: str
    digest: str
    pepper_id: str
    handle: str
    permissions: Permissions
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyDetails:
    """A key as lists show it: never the key itself."""

    id: str
    organization_id: str
    name: str
    handle: str
    permissions: Permissions
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    disabled_at: datetime | None
    last_used_at: datetime | None

    def status(self, now: datetime) -> str:
        """`revoked`, `disabled`, `expired` or `active`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.disabled_at is not None:
            return "disabled"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def to_json(self) -> dict[str, object]:
        """One JSON object; times in ISO 8601 or null."""
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "name": self.name,
            "handle": self.handle,
            "permissions": storable(self.permissions),
            "created_at": self.created_at.isoformat(),
            "expires_at": _iso(self.expires_at),
            "revoked_at": _iso(self.revoked_at),
            "disabled_at": _iso(self.disabled_at),
            "last_used_at": _iso(self.last_used_at),
        }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
