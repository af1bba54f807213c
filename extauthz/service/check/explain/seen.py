"""All that one explained check saw, and which of its steps decided."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow
from extauthz.core.errors import StoreUnavailable
from extauthz.core.explanation import NamedKey, StepName
from extauthz.core.failure import OnRedisDown
from extauthz.core.keys import ApiKey
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match, RouteTable
from extauthz.core.tenants import Tenant
from extauthz.service.check.explain.findings import ReadFrom, Reading
from extauthz.service.check.explain.peek import Peek

STEPS: tuple[StepName, ...] = (
    "path",
    "host",
    "route",
    "credential",
    "key",
    "organization",
    "permission",
    "limits",
)
ELSEWHERE = "change it where keys are kept: they come from [keys] lookup_sql"
PUBLIC = "the route is public"

_BY_DECISION: Mapping[Reason, StepName] = {
    Reason.PATH_AMBIGUOUS: "path",
    Reason.HOST_AMBIGUOUS: "host",
    Reason.ROUTE_NOT_ALLOWED: "route",
    Reason.NO_CREDENTIALS: "credential",
    Reason.MALFORMED_CREDENTIALS: "credential",
    Reason.ORGANIZATION_SUSPENDED: "organization",
    Reason.PERMISSION_DENIED: "permission",
}
_LAST_YEAR = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Seen:
    """All that one explained check saw.

    `named` is the key with its name and organization, where they are known; `by_id`: it was named, not presented.
    `pepper_missing`:
    no pepper of the service has made its digest. `layers` are those that its record was looked for in. `troubles` is
    why a store is away, by store; `path` is what may be shown of the path. `now` (Unix seconds) is not the time of the
    request where that is `moved`.
    """

    table: RouteTable
    request: CheckRequest
    result: CheckResult
    key: Reading[ApiKey] | None
    tenant: Reading[Tenant] | None
    peek: Peek
    would: Reason | None
    named: NamedKey | None
    by_id: bool
    pepper_missing: bool
    kept_elsewhere: bool
    layers: tuple[ReadFrom, ...]
    on_redis_down: OnRedisDown
    troubles: Mapping[str, str]
    path: str
    now: float
    moved: bool

    @property
    def route(self) -> Match | None:
        """The route that matched."""
        return self.result.route

    @property
    def refused_at(self) -> StepName | None:
        """The step that refused; None where the request passes."""
        decision = self.result.decision
        if isinstance(decision, Allow):
            return None
        if decision.reason in _BY_DECISION:
            return _BY_DECISION[decision.reason]
        if self.tenant is not None and (self.tenant.record is None or self.tenant.error is not None):
            return "organization"
        if self.key is not None and self.tenant is None:
            return "key"
        public = self.route is not None and self.route.public
        return "limits" if public or self.tenant is not None else "credential"

    def away(self, error: StoreUnavailable) -> str:
        """What is said of a store that did not answer."""
        store = {"postgresql": "PostgreSQL", "redis": "Redis"}.get(error.store, error.store)
        why = self.troubles.get(error.store) if error.reason == "down" else ""
        return f"{store} is away ({why or error.detail})"

    @property
    def organization(self) -> str:
        """How commands are to call the organization: by its name where that is known."""
        if self.named is not None:
            return self.named.organization
        return "ORG" if self.result.subject is None else self.result.subject.organization_id


def time_text(seconds: float | None) -> str | None:
    """Unix seconds in ISO 8601; None is never."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(min(seconds, _LAST_YEAR), UTC).isoformat()


def plain_time(seconds: float | None) -> str:
    """The same in a sentence: whole seconds, as options take it."""
    text = time_text(seconds)
    return "never" if text is None else f"{text[:19]}Z"


def age(loaded_at: float, now: float) -> float:
    """Seconds since a record was read from PostgreSQL."""
    return round(max(now - loaded_at, 0.0), 1)
