"""What management shows: plans, organizations, keys and changes as they are stored, with a JSON form for scripts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from extauthz.core.limits import Limits
from extauthz.core.permissions import FULL_ACCESS, Permissions, storable

T = TypeVar("T")

_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
METADATA_MAX, METADATA_NAME_MAX, METADATA_VALUE_MAX = 50, 64, 500  # entries, characters, characters


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page, newest first. `next` is where the next one begins: url-safe text that means nothing to others."""

    items: list[T]
    next: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Limits under a name. `row_version` goes up with every change."""

    id: str
    name: str
    limits: Limits
    created_at: datetime
    updated_at: datetime
    row_version: int

    def to_json(self) -> dict[str, object]:
        """One JSON object; times in ISO 8601."""
        return {
            "id": self.id,
            "name": self.name,
            **self.limits.to_record(),
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "version": self.row_version,
        }


@dataclass(frozen=True, slots=True)
class Organization:
    """A tenant. `overrides` are its own limits where they differ from the plan's; None for `until`: they have no end.

    `limits_mode` is `enforce` or `shadow`. Days are those of `timezone` from `timezone_from` on, months begin on the
    day `anchor` (1 to 31) from `anchor_from` on; None: since it was made.
    """

    id: str
    name: str
    plan: str
    status: str
    overrides: Mapping[str, object]
    until: datetime | None
    limits_mode: str
    timezone: str
    anchor: int
    created_at: datetime
    updated_at: datetime
    row_version: int
    timezone_from: datetime | None = None
    anchor_from: datetime | None = None

    def limits_now(self, plan: Plan, now: datetime) -> Limits:
        """What it may spend on a plan at `now`, when its own limits may be over."""
        return plan.limits if self.until is not None and self.until <= now else self.limits_on(plan)

    def limits_on(self, plan: Plan) -> Limits:
        """What it may spend on a plan. ValueError where its own limits do not fit the plan's."""
        own = {name: value for name, value in self.overrides.items() if value is not None}
        return Limits.from_record(plan.limits.to_record() | own)

    def to_json(self) -> dict[str, object]:
        """One JSON object; times in ISO 8601, an override that is null is the plan's."""
        return {
            "id": self.id,
            "name": self.name,
            "plan": self.plan,
            "status": self.status,
            **self.overrides,
            "until": _iso(self.until),
            "limits_mode": self.limits_mode,
            "timezone": self.timezone,
            "timezone_from": _iso(self.timezone_from),
            "anchor": self.anchor,
            "anchor_from": _iso(self.anchor_from),
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "version": self.row_version,
        }


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What its owner says of a key. `limits` are its own, inside its organization's."""

    name: str = ""
    permissions: Permissions = field(default_factory=lambda: FULL_ACCESS)
    expires_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is stored of a key: the first of `digests` (64 hex digits each), made with the pepper `pepper_id`.

    The other digests are of the same key under other peppers; none of them may be stored or retired.
    """

    organization_id: str
    terms: KeyTerms
    digests: tuple[str, ...] = field(repr=False)
    pepper_id: str
    handle: str


@dataclass(frozen=True, slots=True)
class KeyDetails:
    """A key as lists show it: never the key itself.

    `rotated_to` is the id of the key that took its place; `row_version` goes up with every change but `last_used_at`.
    """

    id: str
    organization_id: str
    name: str
    handle: str
    permissions: Permissions
    metadata: Mapping[str, str]
    limits: Limits
    pepper_id: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    disabled_at: datetime | None
    last_used_at: datetime | None
    rotated_to: str | None
    row_version: int

    @property
    def terms(self) -> KeyTerms:
        """What its owner says of it."""
        return KeyTerms(self.name, self.permissions, self.expires_at, self.metadata, self.limits)

    def status(self, now: datetime) -> str:
        """`revoked`, `disabled`, `expired` or `active`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.disabled_at is not None:
            return "disabled"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def to_json(self, now: datetime) -> dict[str, object]:
        """One JSON object; times in ISO 8601 or null, `status` as it is at `now`."""
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "name": self.name,
            "handle": self.handle,
            "permissions": storable(self.permissions),
            "status": self.status(now),
            "metadata": dict(self.metadata),
            **self.limits.to_record(),
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "expires_at": _iso(self.expires_at),
            "revoked_at": _iso(self.revoked_at),
            "disabled_at": _iso(self.disabled_at),
            "last_used_at": _iso(self.last_used_at),
            "rotated_to": self.rotated_to,
            "version": self.row_version,
        }


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which changes are asked for; None: any. `plan` is an id or a name, `actor` a whole one or what stands behind its
    colon.
    """

    plan: str | None = None
    key_id: str | None = None
    actor: str | None = None
    since: datetime | None = None


EVERY_CHANGE = AuditFilter()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change of one thing. `diff` holds [before, after] of every field that changed, and no digest.

    `subject_name` is what the thing is called now or, where it is gone, was called by this change where that says so.

    `actor` is `token:` and a token's name, `cli:` and a user's, or `sql:` and a database role. `role` is the one that
    was logged in to PostgreSQL: a person writing SQL cannot choose it, unlike the actor. `reason` is the text given
    with the change, if any.
    """

    id: int
    at: datetime
    actor: str
    role: str
    action: str
    kind: str
    subject_id: str
    subject_name: str | None
    organization_id: str | None
    diff: Mapping[str, list[object]]
    reason: str | None = None

    def to_json(self) -> dict[str, object]:
        """One JSON object; the time in ISO 8601."""
        return {
            "id": self.id,
            "at": self.at.isoformat(),
            "actor": self.actor,
            "role": self.role,
            "action": self.action,
            "kind": self.kind,
            "subject_id": self.subject_id,
            "subject_name": self.subject_name,
            "organization_id": self.organization_id,
            "diff": dict(self.diff),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class PepperUse:
    """How many keys depend on a pepper, and how many of them are neither revoked, disabled nor expired.

    Keys of a pepper that is not `configured` any more are never admitted.
    """

    id: str
    configured: bool
    signs: bool
    keys: int
    usable: int

    def to_json(self) -> dict[str, object]:
        """One JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def looks_like_id(text: str) -> bool:
    """Whether a text is an id as we write them, 8-4-4-4-12 hex digits. No plan and no organization has such a name."""
    return _ID.fullmatch(text) is not None


def parse_metadata(value: object) -> Mapping[str, str]:
    """Metadata as a value; ValueError says what cannot be kept, never the value."""
    if not isinstance(value, Mapping):
        raise ValueError("metadata must be an object")
    if len(value) > METADATA_MAX:
        raise ValueError(f"metadata has more than {METADATA_MAX} entries")
    for name, text in value.items():
        if not isinstance(name, str) or not 1 <= len(name) <= METADATA_NAME_MAX:
            raise ValueError(f"a name in metadata must have 1 to {METADATA_NAME_MAX} characters")
        if not isinstance(text, str) or len(text) > METADATA_VALUE_MAX:
            raise ValueError(f"a value in metadata must be a text of at most {METADATA_VALUE_MAX} characters")
        if "\0" in name + text or any("\ud800" <= character <= "\udfff" for character in name + text):
            raise ValueError("metadata holds NUL or half a character")
    return dict(value)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
