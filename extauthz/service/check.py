"""The page to read first: every step of a request, in order. The first step that refuses answers."""

from dataclasses import replace
from time import monotonic

from extauthz.core import failure
from extauthz.core.addresses import address_group
from extauthz.core.credentials import Credential, KeyFormat
from extauthz.core.decision import Allow, Decision, Deny, deny
from extauthz.core.errors import StoreUnavailable
from extauthz.core.hosts import normal_host
from extauthz.core.keys import ApiKey
from extauthz.core.ports import Observer
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match, RouteTable, is_ambiguous
from extauthz.core.spend import Owner, Spend, once_name
from extauthz.service.grants import Grants
from extauthz.service.limiting import Limiting
from extauthz.service.lookup import Lookup
from extauthz.service.rejections import Rejections, ended_by


class CheckService:
    """May this request pass?"""

    def __init__(
        self,
        *,
        routes: RouteTable,
        key_format: KeyFormat,
        lookup: Lookup,
        limiting: Limiting,
        rejections: Rejections,
        observer: Observer,
    ) -> None:
        self._routes = routes
        self._key_format = key_format
        self._lookup = lookup
        self._grants = Grants()
        self._limiting = limiting
        self._rejections = rejections
        self._observer = observer

    async def check(self, request: CheckRequest) -> Decision:
        """The one answer to `request`. Never raises for what a client sent, nor for a store that is away."""
        decision = await self._decide(request)
        self._observer.decided(request.dialect, decision, monotonic() - request.started)
        return decision

    def refuse_proxy_request(self, dialect: str, started: float) -> Decision:
        """The answer to a request that is no question: the proxy's headers do not say what is asked."""
        decision = deny(Reason.BAD_PROXY_REQUEST)
        self._observer.decided(dialect, decision, monotonic() - started)
        return decision

    async def _decide(self, request: CheckRequest) -> Decision:
        # path
        if is_ambiguous(request.path):
            return self._refused(deny(Reason.PATH_AMBIGUOUS), request)

        # host, where it matters
        host = normal_host(request.host) if self._routes.names_hosts else None
        if host is None and self._routes.names_hosts:
            return self._refused(deny(Reason.HOST_AMBIGUOUS), request)

        # route
        route = self._routes.match(request.method, host, request.path)
        if route is None:
            return self._refused(deny(Reason.ROUTE_NOT_ALLOWED), request)
        if route.public:
            return await self._decide_public(route, request)

        # credential; the raw key stays inside this one call
        credential = self._key_format.extract(request.authorization)
        if isinstance(credential, Reason):
            return self._refused(deny(credential), request, route)
        return await self._decide_for(credential, route, request)

    async def _decide_for(self, credential: Credential, route: Match, request: CheckRequest) -> Decision:
        # key, then its organization
        try:
            key = await self._lookup.key(credential, request, cached=route.cache)
            if key is None:
                return self._refused(deny(Reason.INVALID_CREDENTIALS), request, route)
            if not key.admits(request.now):
                return self._refused(deny(Reason.INVALID_CREDENTIALS), request, route, key, why=ended_by(key))
            self._lookup.note_use(key, request)
            tenant = await self._lookup.tenant(key, request, cached=route.cache)
        except StoreUnavailable as error:
            return self._refused(failure.without_identity(error), request, route)
        if tenant is None:
            return self._refused(deny(Reason.INVALID_CREDENTIALS), request, route, key, why="organization_gone")
        if tenant.suspended:
            return self._refused(deny(Reason.ORGANIZATION_SUSPENDED), request, route, key)

        # permission
        grant = self._grants.of(key, tenant, route, request.now)
        if isinstance(grant.identity, Deny):
            return self._refused(grant.identity, request, route, key)

        # limits
        asked = grant.asked
        if self._limiting.charge_once and isinstance(asked, Spend):
            asked = replace(asked, once=once_name(request, key, route))
        decision = await self._limiting.decide(asked, grant.identity, shadow=tenant.shadow or route.shadow)
        return decision if isinstance(decision, Allow) else self._refused(decision, request, route, key)

    async def _decide_public(self, route: Match, request: CheckRequest) -> Decision:
        if route.bucket is None:
            return Allow()
        owner = Owner("address", f"{route.bucket.name} {address_group(request.client_address)}")
        decision = await self._limiting.decide(Spend(owner, 1, route.bucket.limits), None, shadow=route.shadow)
        return decision if isinstance(decision, Allow) else self._refused(decision, request, route)

    def _refused(
        self,
        refusal: Deny,
        request: CheckRequest,
        route: Match | None = None,
        key: ApiKey | None = None,
        *,
        why: str = "",
    ) -> Deny:
        """The refusal, once it is counted."""
        self._rejections.note(request, refusal, route="" if route is None else route.path, key=key, reason=why)
        return refusal
