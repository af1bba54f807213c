"""The page to read first: every step of a request, in order. The first step that refuses answers."""

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic, time

from extauthz.core.addresses import address_group
from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow, Decision, Deny, deny
from extauthz.core.hosts import normal_host
from extauthz.core.observers import CheckObserver
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Bucket, Match, RouteTable, is_ambiguous
from extauthz.core.spend import Owner, Spend, once_name
from extauthz.core.trace import Trace
from extauthz.service.check.authenticate import Authentication, Refused
from extauthz.service.check.authorize import Authorizations
from extauthz.service.check.rate_limit import RateLimit


class CheckService:
    """May this request pass?"""

    def __init__(
        self,
        *,
        routes: RouteTable,
        authentication: Authentication,
        limiting: RateLimit,
        observers: Sequence[CheckObserver],
    ) -> None:
        """`observers` are told of every check, in this order."""
        self._routes = routes
        self._authentication = authentication
        self.authorizations = Authorizations()
        self._limiting = limiting
        self._observers = tuple(observers)

    @property
    def observers(self) -> Sequence[CheckObserver]:
        """What is told of every check."""
        return self._observers

    @property
    def names_hosts(self) -> bool:
        """Whether the host of a request may matter."""
        return self._routes.names_hosts

    async def check(self, request: CheckRequest) -> CheckResult:
        """The result of checking `request`. Never raises for what a client sent, nor for a store that is away."""
        result = CheckResult(request.dialect, request, request.now, trace=request.trace)
        result.decision = await self._decide(request, result)
        return self.told(result, request.started)

    def refuse_proxy_request(self, dialect: str, started: float, trace: Trace | None = None) -> CheckResult:
        """The result for a request that asks nothing: the proxy's headers do not say what is asked."""
        return self.told(CheckResult(dialect, None, time(), deny(Reason.BAD_PROXY_REQUEST), trace=trace), started)

    def told(self, result: CheckResult, started: float) -> CheckResult:
        """The result, once every observer has it."""
        result.seconds = monotonic() - started
        for observer in self._observers:
            observer.decided(result)
        return result

    def takes_any_end(self, path: str) -> bool:
        """Whether a path leads where it does whatever its last segment is; see RouteTable."""
        return self._routes.takes_any_end(path)

    def find_route(self, method: str, host: str, path: str) -> Match | Deny:
        """Where a request leads, by its question alone; or the refusal of its path, its host or its route."""
        # path
        if is_ambiguous(path):
            return deny(Reason.PATH_AMBIGUOUS)

        # host, where it matters
        normal = normal_host(host) if self._routes.names_hosts else None
        if normal is None and self._routes.names_hosts:
            return deny(Reason.HOST_AMBIGUOUS)

        # route
        return self._routes.match(method, normal, path) or deny(Reason.ROUTE_NOT_ALLOWED)

    async def _decide(self, request: CheckRequest, result: CheckResult) -> Decision:
        route = self.find_route(request.method, request.host, request.path)
        if isinstance(route, Deny):
            return route
        result.route = route
        if route.public:
            return await self._decide_public(route, request, result)

        # credential, subject, organization; the raw credential stays inside this one call
        found = await self._authentication.authenticate(request, cached=route.cache)
        result.subject = found.subject
        if isinstance(found, Refused):
            result.why = found.why
            return found.decision

        # permission
        authorized = self.authorizations.of(found.subject, found.tenant, route, request.now)
        if isinstance(authorized.identity, Deny):
            return authorized.identity

        # limits
        asked = authorized.asked
        if isinstance(asked, Spend):
            result.identified_after = monotonic() - request.started
            if self._limiting.charge_once:
                asked = replace(asked, once=once_name(request, found.subject, route))
        shadow = found.tenant.shadow or route.shadow
        return await self._limiting.decide(asked, authorized.identity, shadow=shadow, trace=request.trace)

    async def _decide_public(self, route: Match, request: CheckRequest, result: CheckResult) -> Decision:
        if route.bucket is None:
            return Allow()
        asked = public_spend(route.bucket, request.client_address)
        result.identified_after = monotonic() - request.started
        return await self._limiting.decide(asked, None, shadow=route.shadow, trace=request.trace)


def public_spend(bucket: Bucket, client_address: str) -> Spend:
    """What a request of a client asks of the bucket of a public route."""
    return Spend(Owner("address", f"{bucket.name} {address_group(client_address)}"), 1, bucket.limits)
