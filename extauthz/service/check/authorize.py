"""What follows from a key, its organization and a route is worked out once, as long as the same records hold."""

from functools import lru_cache
from typing import NamedTuple

from extauthz.core.decision import Deny, deny_permission
from extauthz.core.identity import Identity
from extauthz.core.keys import ApiKey
from extauthz.core.permissions import permitted
from extauthz.core.reason import Reason
from extauthz.core.routes import Match
from extauthz.core.spend import Spend, plan
from extauthz.core.tenants import Tenant

HELD_MAX = 2_000  # at some 700 bytes each; a check that is remembered has its own
_SLOT = 900  # seconds in which no day begins, in any time zone (see core.calendar)


class Grant(NamedTuple):
    """Who may pass or the refusal, what that asks of limits or why it never fits, before `until` (Unix seconds).

    Of a refusal `asked` repeats the reason.
    """

    key: ApiKey
    tenant: Tenant
    identity: Identity | Deny
    asked: Spend | Reason
    until: float


class Grants:
    """Grants by key and route. Another record of the key or its organization makes another grant.

    Refusals are not kept: where a path names the resource, a client could make as many as it likes.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str, int], Grant] = {}

    def of(self, key: ApiKey, tenant: Tenant, route: Match, now: float) -> Grant:
        """What the key may do at the route at `now` (Unix seconds)."""
        name = key.digest, route.resource, route.mode, route.cost
        grant = self._held.get(name)
        if grant is None or grant.key is not key or grant.tenant is not tenant or now >= grant.until:
            self._held.pop(name, None)
            grant = _granted(key, tenant, route, now)
            if isinstance(grant.identity, Identity):
                if len(self._held) >= HELD_MAX:
                    self._held.clear()
                self._held[name] = grant
        return grant


@lru_cache(maxsize=1024)  # routes are few, and each text is kept once
def _granted_at(resource: str, mode: str) -> str:
    return f"{resource}:{mode}"


def _granted(key: ApiKey, tenant: Tenant, route: Match, now: float) -> Grant:
    if not permitted(key.permissions, route.resource, route.mode):
        refusal = deny_permission(route.resource, route.mode)
        return Grant(key, tenant, refusal, refusal.reason, now)
    identity = Identity(tenant.id, key.id, _granted_at(route.resource, route.mode), tenant.plan)
    until = (now // _SLOT + 1) * _SLOT
    if tenant.overrides_until is not None and now < tenant.overrides_until < until:
        until = tenant.overrides_until
    return Grant(key, tenant, identity, plan(tenant, key, route.cost, now), until)
