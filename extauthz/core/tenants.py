"""What we know about an organization (= tenant): its plan, its status, its limits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from extauthz.core.calendar import UTC_CALENDAR, Calendar
from extauthz.core.changes import EntityRef
from extauthz.core.limits import UNLIMITED, Limits

ACTIVE, SUSPENDED = "active", "suspended"
STATUSES = (ACTIVE, SUSPENDED)
ENFORCE, SHADOW = "enforce", "shadow"
LIMITS_MODES = (ENFORCE, SHADOW)

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_HEADER_SAFE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?", re.ASCII)


class TenantTerms(NamedTuple):
    """What is said of an organization, whichever it is and whenever it was read: of many of them the same."""

    plan: str
    plan_id: str
    status: str
    limits: Limits
    overrides_until: float | None
    plan_limits: Limits
    calendar: Calendar
    shadow: bool


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization as a check needs it.

    `plan` is a name and `plan_id` what changes of that plan are told by, empty where there are none; `loaded_at` Unix
    seconds of the read of PostgreSQL and `version` its number (see `core.changes`). `limits` are its own where it has
    any, else its plan's; from `overrides_until` (Unix seconds) on they are all its plan's. `shadow`: limits are
    computed and refuse nothing.
    """

    id: str
    plan: str
    status: str
    limits: Limits
    loaded_at: float
    version: int
    plan_id: str = ""
    overrides_until: float | None = None
    plan_limits: Limits = UNLIMITED
    calendar: Calendar = UTC_CALENDAR
    shadow: bool = False

    def limits_at(self, now: float) -> Limits:
        """What it may spend at `now` (Unix seconds)."""
        if self.overrides_until is None or now < self.overrides_until:
            return self.limits
        return self.plan_limits

    @property
    def made_of(self) -> tuple[EntityRef, ...]:
        """What must not have changed since this was read."""
        return (EntityRef("organization", self.id), EntityRef("plan", self.plan_id))

    @property
    def ends_at(self) -> float:
        """An organization does not end by itself: a suspended one is refused in words of its own."""
        return inf

    @property
    def suspended(self) -> bool:
        """Whether all keys of the organization are refused."""
        return self.status != ACTIVE

    @property
    def terms(self) -> TenantTerms:
        """All but its id and its read."""
        return TenantTerms(
            plan=self.plan,
            plan_id=self.plan_id,
            status=self.status,
            limits=self.limits,
            overrides_until=self.overrides_until,
            plan_limits=self.plan_limits,
            calendar=self.calendar,
            shadow=self.shadow,
        )

    @classmethod
    def of(cls, tenant_id: str, terms: TenantTerms, loaded_at: float, version: int) -> "Tenant":
        """The organization with that id and those terms, of that read."""
        return cls(
            id=tenant_id,
            plan=terms.plan,
            status=terms.status,
            limits=terms.limits,
            loaded_at=loaded_at,
            version=version,
            plan_id=terms.plan_id,
            overrides_until=terms.overrides_until,
            plan_limits=terms.plan_limits,
            calendar=terms.calendar,
            shadow=terms.shadow,
        )

    def to_record(self) -> dict[str, object]:
        """The JSON object that caches keep: first what differs from read to read."""
        return {
            "id": self.id,
            "loaded_at": self.loaded_at,
            "version": self.version,
            "plan": self.plan,
            "status": self.status,
            "plan_id": self.plan_id,
            **self.limits.to_cache(),
            "overrides_until": self.overrides_until,
            "plan_limits": self.plan_limits.to_cache(),
            "calendar": self.calendar.to_record(),
            "limits_mode": SHADOW if self.shadow else ENFORCE,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "Tenant":
        """The tenant of a record from a store; ValueError says what is wrong in it."""
        status = record.get("status")
        if status not in STATUSES:
            raise ValueError("status must be active or suspended")
        mode = record.get("limits_mode")
        if mode not in LIMITS_MODES:
            raise ValueError("limits_mode must be enforce or shadow")
        plan_limits, calendar = record.get("plan_limits"), record.get("calendar")
        if not isinstance(plan_limits, dict) or not isinstance(calendar, dict):
            raise ValueError("plan_limits and calendar must be objects")
        if "overrides_until" not in record:
            raise ValueError("overrides_until is missing")
        until = record["overrides_until"]
        return cls(
            id=header_safe(record, "id"),
            plan=header_safe(record, "plan"),
            status=str(status),
            limits=Limits.from_record(record),
            loaded_at=seconds(record, "loaded_at"),
            version=read_version(record),
            plan_id=_plan_id(record),
            overrides_until=None if until is None else seconds(record, "overrides_until"),
            plan_limits=Limits.from_record(plan_limits),
            calendar=Calendar.from_record(calendar),
            shadow=mode == SHADOW,
        )


def header_safe(record: Mapping[str, object], name: str) -> str:
    """The text `name` of a record, fit for a header: printable ASCII, 1 to 255 characters, no space at its ends."""
    value = record.get(name)
    if not isinstance(value, str) or not _HEADER_SAFE.fullmatch(value):
        raise ValueError(f"{name} must be printable ASCII of 1 to 255 characters")
    return value


def seconds(record: Mapping[str, object], name: str) -> float:
    """The Unix seconds `name` of a record: a finite number that is not negative."""
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ValueError(f"{name} must be a time")
    return float(value)


def read_version(record: Mapping[str, object]) -> int:
    """The number of the read that a record came from."""
    value = record.get("version")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError("version must be the number of a read")
    return value


def _plan_id(record: Mapping[str, object]) -> str:
    return "" if record.get("plan_id") == "" else header_safe(record, "plan_id")


def key_part(tenant_id: str) -> str:
    """A tenant's name as part of a store's key: itself if plain, else hex behind a `.`; two names never share one."""
    if _PLAIN_NAME.fullmatch(tenant_id):
        return tenant_id
    return "." + tenant_id.encode("utf-8", "surrogatepass").hex()
