"""Subject: what an API request is made by, whatever proved it, and Identity: what the upstream is told of it."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.permissions import Permissions

SubjectKind = Literal["api_key"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is made by, and what that may do: all that authorization, limits, usage and headers need.

    `kind` says what proved it. `limits` are its own, inside those of its organization.
    """

    kind: ClassVar[SubjectKind]
    id: str
    organization_id: str
    permissions: Permissions
    limits: Limits = field(default=UNLIMITED, kw_only=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller of an allowed request, as the upstream is told. `granted` is `resource:mode`."""

    organization_id: str
    subject_id: str
    granted: str
    plan: str
    kind: SubjectKind = "api_key"
