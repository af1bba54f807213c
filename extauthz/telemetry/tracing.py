"""Which checks are recorded, and by whose wish. It imports no library until tracing is on."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from extauthz.core.check_result import CheckResult
from extauthz.core.trace import Trace, parse_traceparent, read_sampled
from extauthz.telemetry.finished import FinishedCheck, finished, new_span_id
from extauthz.telemetry.sender import Sender

_IDS = 1 << 64  # a ratio looks at the lower half of a trace's id, as OpenTelemetry's samplers do


class Tracing:
    """Begins the trace of a check where its sampler keeps it, and hands what came of it to `sender`.

    `sampler` is one of OpenTelemetry's: `always_on`, `always_off`, `traceidratio` (of which `share` is kept), or one of
    them after `parentbased_`: then the parent decides, where there is one.
    """

    def __init__(self, sampler: str, share: float, sender: Sender[FinishedCheck]) -> None:
        self._by_parent = sampler.startswith("parentbased_")
        shares = {"always_on": 1.0, "always_off": 0.0}
        self._bound = round(shares.get(sampler.removeprefix("parentbased_"), share) * _IDS)
        self._sender = sender

    def begin(self, traceparent: str) -> Trace | None:
        """The trace of a check that is to be recorded, as a part of the proxy's where there is one."""
        sampled = read_sampled(traceparent) if traceparent else None
        if sampled is None:
            lower = random.getrandbits(64)
            if lower >= self._bound:
                return None
            return Trace(f"{random.getrandbits(64):016x}{lower:016x}", new_span_id(), "")
        if self._by_parent and not sampled:
            return None
        parent = parse_traceparent(traceparent)
        if parent is None or not (self._by_parent or int(parent.trace_id[16:], 16) < self._bound):
            return None
        return Trace(parent.trace_id, new_span_id(), parent.span_id)

    def decided(self, result: CheckResult) -> None:
        """Queues a recorded check to be sent."""
        if result.trace is not None:
            check = finished(result, result.trace)
            self._sender.put(check, 1 + len(check.calls))


@asynccontextmanager
async def sent_to(
    url: str, headers: Mapping[str, str], attributes: Mapping[str, str], *, hide: Callable[[str], str]
) -> AsyncIterator[Sender[FinishedCheck]]:
    """What sends spans to the endpoint at `url`, until left; see SpanReceiver."""
    from extauthz.telemetry.spans import SpanReceiver  # noqa: PLC0415 - the SDK is imported only where traces are sent

    sender = Sender(SpanReceiver(url, headers, attributes, hide=hide), "spans")
    try:
        yield sender
    finally:
        await sender.close()
