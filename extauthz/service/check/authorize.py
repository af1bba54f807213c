"""What a subject of an organization may do at a route is worked out once, as long as the same records hold."""

from functools import lru_cache
from typing import NamedTuple

from extauthz.core.decision import Deny, deny_permission
from extauthz.core.permissions import permitted
from extauthz.core.reason import Reason
from extauthz.core.routes import Match
from extauthz.core.spend import Spend, build_spend
from extauthz.core.subject import Identity, Subject
from extauthz.core.tenants import Tenant

HELD_MAX = 2_000  # at some 700 bytes each; a check that is remembered has its own
_SLOT = 900  # seconds in which no day begins, in any time zone (see core.calendar)


class AuthorizedRequest(NamedTuple):
    """What a request of a subject at a route may do, before `until` (Unix seconds).

    `identity` is what the upstream is told, or the refusal; `asked` what is asked of limits, or why that never fits. Of
    a refusal `asked` repeats the reason.
    """

    subject: Subject
    tenant: Tenant
    identity: Identity | Deny
    asked: Spend | Reason
    until: float


class Authorizations:
    """Authorizations by subject and route. Another record of the subject or its organization makes another one.

    Refusals are not kept: where a path names the resource, a client could make as many as it likes.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str, int], AuthorizedRequest] = {}

    def of(self, subject: Subject, tenant: Tenant, route: Match, now: float) -> AuthorizedRequest:
        """What the subject may do at the route at `now` (Unix seconds)."""
        name = subject.id, route.resource, route.mode, route.cost
        held = self._held.get(name)
        if held is not None and held.subject is subject and held.tenant is tenant and now < held.until:
            return held
        self._held.pop(name, None)
        authorized = _authorize(subject, tenant, route, now)
        if isinstance(authorized.identity, Identity):
            if len(self._held) >= HELD_MAX:
                self._held.clear()
            self._held[name] = authorized
        return authorized


@lru_cache(maxsize=1024)  # routes are few, and each text is kept once
def _granted_at(resource: str, mode: str) -> str:
    return f"{resource}:{mode}"


def _authorize(subject: Subject, tenant: Tenant, route: Match, now: float) -> AuthorizedRequest:
    if not permitted(subject.permissions, route.resource, route.mode):
        refusal = deny_permission(route.resource, route.mode)
        return AuthorizedRequest(subject, tenant, refusal, refusal.reason, now)
    identity = Identity(tenant.id, subject.id, _granted_at(route.resource, route.mode), tenant.plan, subject.kind)
    until = (now // _SLOT + 1) * _SLOT
    if tenant.overrides_until is not None and now < tenant.overrides_until < until:
        until = tenant.overrides_until
    return AuthorizedRequest(subject, tenant, identity, build_spend(tenant, subject, route.cost, now), until)
