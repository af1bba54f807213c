"""Checks that ask nothing but their limits: what a door needs to answer them without a task or a coroutine.

The pipeline answers all others, and both decide alike: by what is remembered of it, and by the same limits.
"""

from collections.abc import Sequence
from dataclasses import replace

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Decision
from extauthz.core.errors import StoreUnavailable
from extauthz.core.observers import CheckWatcher, Meter
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.spend import Row, Spend, Spent, once_name, result_of
from extauthz.service.check.pipeline import CheckService
from extauthz.service.check.rate_limit import RateLimit
from extauthz.service.check.remembered import Memory, Remembered
from extauthz.service.limits.limiter import Limiter


class FastChecks:
    """What is remembered of checks, and how their limits are asked and what follows is told."""

    def __init__(
        self,
        service: CheckService,
        memory: Memory,
        *,
        limiter: Limiter,
        limiting: RateLimit,
        meter: Meter,
        watchers: Sequence[CheckWatcher] = (),
    ) -> None:
        """`watchers` are observers of the service that may want every check whole."""
        self.memory = memory
        self.take, self.leases = limiter.take, limiter.leases
        self.find_route, self.takes_any_end = service.find_route, service.takes_any_end
        self.names_hosts = service.names_hosts
        self.charge_once = limiting.charge_once
        self._service = service
        self._limiter = limiter
        self._limiting = limiting
        self._meter = meter
        self._watchers = tuple(watchers)

    @property
    def watched(self) -> bool:
        """Whether something wants to be told of every check."""
        for watcher in self._watchers:  # noqa: SIM110 - a generator costs more than all the rest
            if watcher.watching:
                return True
        return False

    def spend_once(self, found: Remembered, request: CheckRequest) -> Spend:
        """What a request asks that is charged once, where it has an id."""
        assert found.spend is not None  # noqa: S101 - only then there is something to charge
        if found.subject is None or found.route is None:
            return found.spend
        return replace(found.spend, once=once_name(request, found.subject, found.route))

    def note(self, spend: Spend, row: Row, reason: Reason) -> None:
        """Counts the outcome of a spend that was decided elsewhere, as `conclude` does. No flag may be set."""
        if spend.owner.kind == "tenant":
            self._meter.note(spend, row, reason)

    def conclude(self, found: Remembered, spend: Spend, now: int, row: Row) -> Decision:
        """The decision on the outcome of a spend that is a Spent."""
        spent = result_of(now, row)
        assert isinstance(spent, Spent)  # noqa: S101 - `go_on` handles other rows
        return self._limiting.concluded(spend, spent, found.identity, shadow=found.shadow)

    async def go_on(self, found: Remembered, spend: Spend, now: int, row: Row) -> Decision:
        """The decision where the first call has charged nothing and returned no outcome."""
        try:
            spend, spent = await self._limiter.go_on(spend, (now, row))
        except StoreUnavailable:
            return self.uncharged(found)
        return self._limiting.concluded(spend, spent, found.identity, shadow=found.shadow)

    def uncharged(self, found: Remembered) -> Decision:
        """The decision where the outcome of the spend is unknown."""
        return self._limiting.uncharged(found.identity, shadow=found.shadow)

    def told(self, found: Remembered, request: CheckRequest, decision: Decision, identified_at: float) -> CheckResult:
        """The result of a check, once every observer has it. `identified_at` in monotonic seconds, 0 without limits."""
        result = CheckResult(request.dialect, request, request.now, decision, found.route, found.subject, found.why)
        if identified_at:
            result.identified_after = identified_at - request.started
        return self._service.told(result, request.started)
