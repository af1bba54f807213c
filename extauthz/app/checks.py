"""The check service, and the doors that its listeners lead to."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from extauthz.app.authenticators import authentication
from extauthz.app.decision_outputs import DecisionOutputs
from extauthz.app.listeners import dialects
from extauthz.app.management import key_format
from extauthz.app.usage import UsageWriters
from extauthz.config import Settings
from extauthz.core.failure import OnRedisDown
from extauthz.core.observers import CheckWatcher
from extauthz.service.check.fast import FastChecks
from extauthz.service.check.pipeline import CheckService
from extauthz.service.check.rate_limit import RateLimit
from extauthz.service.check.remembered import Memory, RememberedKeys
from extauthz.service.directory.known_records import Known
from extauthz.service.directory.lookup import Lookup
from extauthz.service.health import Health
from extauthz.service.limits.limiter import Limiter
from extauthz.telemetry.metrics import Metrics
from extauthz.telemetry.tracing import Tracing, sent_to
from extauthz.transports.http.fast_path import FastPath
from extauthz.transports.http.handler import CheckHandler
from extauthz.transports.http.server import CheckDoor


@dataclass(frozen=True, slots=True)
class CheckParts:
    """What checks stand on."""

    lookup: Lookup
    remembered: RememberedKeys
    limiter: Limiter
    writers: UsageWriters
    outputs: DecisionOutputs
    metrics: Metrics
    tracing: Tracing | None

    @property
    def watchers(self) -> Sequence[CheckWatcher]:
        """What may want to be told of every check, those of the fast path too."""
        return (*([self.metrics.tenants] if self.metrics.tenants.watching else []), *self.outputs.observers)


class Checks:
    """Checks in every dialect."""

    def __init__(self, settings: Settings, parts: CheckParts) -> None:
        self._settings = settings
        self._parts = parts
        metrics, writers = parts.metrics, parts.writers
        limiting = RateLimit(
            parts.limiter,
            writers.flush,
            on_redis_down=OnRedisDown(settings.rate_limit_on_redis_down),
            charge_once=settings.charge_once,
            observer=metrics,
        )
        self.authentication = authentication(settings, parts.lookup)
        traced = [] if parts.tracing is None else [parts.tracing]
        self._service = CheckService(
            routes=settings.routes,
            authentication=self.authentication,
            limiting=limiting,
            observers=(metrics, writers.rejections, *traced, *parts.watchers),
        )
        known = Known(parts.lookup)
        metrics.checks.pull(known.count)
        self._fast = FastChecks(
            self._service,
            Memory(self._service, self.authentication, known, of_keys=parts.remembered),
            limiter=parts.limiter,
            limiting=limiting,
            meter=writers.flush,
            watchers=parts.watchers,
        )

    def doors(self, health: Health) -> dict[str, CheckDoor]:
        """What each check listener leads to, by its name. While `health` drains, answers end their connection."""
        settings, parts = self._settings, self._parts
        doors: dict[str, CheckDoor] = {}
        for name, dialect in dialects(settings).items():
            handler = CheckHandler(
                self._service,
                dialect,
                deadline=settings.deadline_ms / 1000,
                health=health,
                tracing=parts.tracing,
                reads_traceparent=bool(parts.outputs.observers),
            )
            fast_path = None
            if settings.fast_path:
                rejections = parts.writers.rejections
                fast_path = FastPath(self._fast, handler, tally=parts.metrics.tally(name), observer=rejections)
                rejections.pull(fast_path.denials.count)
            doors[name] = CheckDoor(handler, fast_path)
        return doors


async def open_tracing(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> Tracing | None:
    """What records checks and sends their spans, until the stack is left; None where tracing is off."""
    if not (url := settings.otlp_url("traces")):
        return None
    hide = key_format(settings).hide
    sending = sent_to(url, settings.otlp_headers, settings.resource_attributes, hide=hide)
    sender = await stack.enter_async_context(sending)
    metrics.drops.watch("spans", lambda: sender.dropped)
    return Tracing(settings.otel_traces_sampler, settings.otel_traces_sampler_arg, sender)
