"""Recorded checks as OpenTelemetry's spans, sent by OTLP over HTTP. It imports the SDK: only where tracing is on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from extauthz.core.ports import POSTGRESQL, REDIS
from extauthz.core.reason import OUTCOMES
from extauthz.core.trace import Trace
from extauthz.telemetry.finished import FinishedCall, FinishedCheck
from extauthz.telemetry.otlp import SCOPE, OtlpSession, describe
from extauthz.telemetry.sender import Receiver

# Others are any text that a client likes (HTTP semantic conventions, `http.request.method`).
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_OK = Status(StatusCode.UNSET)
_FAILED = Status(StatusCode.ERROR)
# What a call of a store is called, by the store and what is asked of it.
_OPERATIONS: Mapping[tuple[str, str], tuple[str, str]] = {
    (REDIS, "spend"): ("EVALSHA", "spend"),
    (REDIS, "seed"): ("EVALSHA", "seed"),
    (REDIS, "api_key"): ("GET", "api_key"),
    (REDIS, "tenant_quota"): ("GET", "tenant_quota"),
    (POSTGRESQL, "api_key"): ("SELECT", "api_key"),
    (POSTGRESQL, "tenant_quota"): ("SELECT", "organization"),
    (POSTGRESQL, "seed"): ("SELECT", "usage"),
}


class SpanReceiver(Receiver[FinishedCheck]):
    """The endpoint for spans at `url`. `hide` takes out of a text what could be a key."""

    def __init__(
        self, url: str, headers: Mapping[str, str], attributes: Mapping[str, str], *, hide: Callable[[str], str]
    ) -> None:
        """`headers` are those of every request, `attributes` what describes this service."""
        self._session = OtlpSession()
        self._exporter = OTLPSpanExporter(endpoint=url, headers=dict(headers), session=self._session)
        self._spans = SpanBuilder(attributes, hide=hide)

    def send(self, items: Sequence[FinishedCheck]) -> str:
        """Sends the spans of checks; why that failed, or an empty text."""
        self._session.failure = ""
        result = self._exporter.export([span for check in items for span in self._spans.of(check)])
        return self._session.failure or ("" if result is SpanExportResult.SUCCESS else "not sent")

    def abort(self) -> None:
        """Ends the waits between two attempts."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the library has no hint there


class SpanBuilder:
    """Makes spans of checks: one for each check, and one for each call of a store that it waited for."""

    def __init__(self, attributes: Mapping[str, str], *, hide: Callable[[str], str]) -> None:
        self._resource = Resource(describe(attributes))
        self._scope = InstrumentationScope(*SCOPE)
        self._hide = hide

    def of(self, check: FinishedCheck) -> Iterator[ReadableSpan]:
        """The span of the check, then those of its calls."""
        trace = check.trace
        state = self._state(trace.state)
        own = _context(trace.trace_id, trace.span_id, state)
        yield self._check(check, own, _parent(trace))
        for call in check.calls:
            yield self._call(call, own, _context(trace.trace_id, call.span_id, state))

    def _check(self, check: FinishedCheck, own: SpanContext, parent: SpanContext | None) -> ReadableSpan:
        status = OUTCOMES[check.decision.reason].status
        attributes: dict[str, str | int] = {
            "extauthz.decision": check.decision.reason.value,
            "extauthz.dialect": check.dialect,
            "http.response.status_code": status,
        }
        optional = {
            "extauthz.route": check.route,
            "extauthz.organization_id": check.organization_id,
            "extauthz.api_key_id": check.api_key_id,
            "extauthz.reason": check.why,
            "extauthz.cache_layer": check.trace.cache_layer,
            "http.route": check.route,
            "http.request.method": check.method and _method(check.method),
            "server.address": self._shown(check.host),
            "url.path": self._shown(check.path),
            "error.type": check.decision.reason.value if status >= 500 else "",
        }
        attributes |= {name: value for name, value in optional.items() if value}
        for call in check.calls:
            if call.operation == "spend":
                attributes["extauthz.batch_size"] = call.size
        return ReadableSpan(
            f"{_method(check.method)} {check.route}".rstrip(),
            own,
            parent,
            self._resource,
            attributes,
            kind=SpanKind.SERVER,
            status=_FAILED if status >= 500 else _OK,
            start_time=_nanoseconds(check.started),
            end_time=_nanoseconds(check.ended),
            instrumentation_scope=self._scope,
        )

    def _call(self, call: FinishedCall, parent: SpanContext, own: SpanContext) -> ReadableSpan:
        operation, target = _OPERATIONS[call.store, call.operation]
        attributes: dict[str, str | int] = {
            "db.system.name": call.store,
            "db.operation.name": operation,
            "db.query.summary": f"{operation} {target}",
        }
        if operation == "EVALSHA":
            attributes["db.stored_procedure.name"] = target
        if call.size > 1:
            attributes["db.operation.batch.size"] = call.size
        if call.error:
            attributes["error.type"] = call.error
        return ReadableSpan(
            f"{operation} {target}",
            own,
            parent,
            self._resource,
            attributes,
            links=[Link(_context(*link)) for link in call.links],
            kind=SpanKind.CLIENT,
            status=_FAILED if call.error else _OK,
            start_time=_nanoseconds(call.started),
            end_time=_nanoseconds(call.ended),
            instrumentation_scope=self._scope,
        )

    def _shown(self, text: str) -> str:
        """A text of a client without what could be a key, and with nothing that UTF-8 cannot say."""
        return self._hide(text).encode("utf-8", "backslashreplace").decode()

    def _state(self, text: str) -> TraceState:
        """The proxy's `tracestate`; empty where it is malformed, or holds what could be a key."""
        if not text or self._hide(text) != text:
            return _NO_STATE
        return _state(text)


_NO_STATE = TraceState()


@lru_cache(maxsize=256)
def _state(text: str) -> TraceState:
    return TraceState.from_header([text])


def _context(trace_id: str, span_id: str, state: TraceState = _NO_STATE) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), False, _SAMPLED, state)


def _parent(trace: Trace) -> SpanContext | None:
    """The proxy's span, in another process."""
    if not trace.parent_id:
        return None
    return SpanContext(int(trace.trace_id, 16), int(trace.parent_id, 16), True, _SAMPLED)


def _method(method: str) -> str:
    return method if method in _METHODS else "_OTHER"


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
