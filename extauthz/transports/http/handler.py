"""Bytes to CheckRequest, Decision to bytes, for one dialect."""

from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic, time
from typing import Protocol, runtime_checkable

from aiohttp import hdrs, web

from extauthz.core import headers
from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow
from extauthz.core.observers import Tracing
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest, Question, RequestBuilder
from extauthz.core.trace import STATE_LONGEST, Trace
from extauthz.service.check.pipeline import CheckService
from extauthz.service.health import Health
from extauthz.transports.http.dialect import Answer, Dialect, ReceivedHeaders, in_lines, only
from extauthz.transports.http.render import WITHOUT_SUBJECT, to_log

# To a request that has met a bug; its connection ends.
FAILED = Answer(500, ((headers.CACHE_CONTROL, "no-store"), (headers.SERVER, "extauthz")))

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


@runtime_checkable
class HoldsTrace(Protocol):
    """A connection that has begun the trace of its next request."""

    def take_trace(self) -> Trace | None:
        """The trace, once."""
        ...


class CheckHandler:
    """Bytes to CheckRequest, Decision to bytes, for one dialect."""

    def __init__(
        self,
        service: CheckService,
        dialect: Dialect,
        *,
        deadline: float,
        health: Health,
        tracing: Tracing | None = None,
        reads_traceparent: bool = False,
    ) -> None:
        """`deadline` is the seconds that one check may take. While `health` drains, answers end their connection.

        `tracing` records checks. `reads_traceparent`: whether anything else asks for the trace that a check is part of.
        """
        self.dialect = dialect
        self.health = health
        self.traces = tracing is not None  # some checks are recorded
        self._service = service
        self._requests = RequestBuilder(dialect.name, deadline=deadline)
        self._tracing = tracing
        self._reads_traceparent = reads_traceparent or tracing is not None

    async def judge(self, method: str, target: str, received: ReceivedHeaders, *, begun: Trace | None = None) -> Answer:
        """The answer to any request: every path and method is a check. The clock is read once, here.

        `begun` is the trace of the check where it is known already that it is to be recorded.
        """
        started = monotonic()
        trace = begun or (self.begin_trace(received) if self.traces else None)
        question = self.dialect.read(method, target, received)
        if question is None:
            return self.render(self._service.refuse_proxy_request(self.dialect.name, started, trace))
        request = self.request_of(question, received, now=time(), started=started)
        request.trace = trace
        return self.render(await self._service.check(request))

    def request_of(self, question: Question, received: ReceivedHeaders, *, now: float, started: float) -> CheckRequest:
        """The request of a question that came at `now` (Unix seconds), `started` on the monotonic clock."""
        traceparent = only(received, headers.TRACEPARENT) if self._reads_traceparent else ""
        return self._requests.build(question, now=now, started=started, traceparent=traceparent)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The same for a request of aiohttp's."""
        begun = None
        if self.traces and isinstance(request.protocol, HoldsTrace):
            begun = request.protocol.take_trace()
        answer = await self.judge(request.method, request.raw_path, request.headers, begun=begun)
        return as_response(answer, last=self.health.draining or announces_more(request.method, request.headers))

    def refuse(self) -> web.Response:
        """The answer to bytes that are not an HTTP request: nothing of them is echoed, and the connection ends."""
        trace = None if self._tracing is None else self._tracing.begin("")
        answer = self.render(self._service.refuse_proxy_request(self.dialect.name, monotonic(), trace))
        bare = Answer(answer.status, [pair for pair in answer.headers if pair[0] != headers.CONTENT_TYPE])
        return as_response(bare, last=True)

    def begin_trace(self, received: ReceivedHeaders) -> Trace | None:
        """The trace of a check that is to be recorded, with the proxy's own words about it."""
        trace = None if self._tracing is None else self._tracing.begin(only(received, headers.TRACEPARENT))
        if trace is not None and trace.parent_id:
            state = ",".join(received.getall(headers.TRACESTATE, []))
            trace.state = state if len(state) <= STATE_LONGEST else ""  # it waits with the trace until that is sent
        return trace

    def render(self, result: CheckResult) -> Answer:
        """The answer of the dialect; a refusal also tells the proxy, for its log, whose request it was.

        Not where the credential is invalid: a revoked key and an unknown one are answered with the same bytes.
        """
        decision, subject = result.decision, result.subject
        answer = self.dialect.render(decision)
        if isinstance(decision, Allow):
            return answer
        if subject is None or decision.reason is Reason.INVALID_CREDENTIALS:
            return answer._replace(varying=[*answer.varying, *WITHOUT_SUBJECT])
        return answer._replace(varying=[*answer.varying, *to_log(subject.organization_id, subject.id)])


def head_of(answer: Answer) -> str:
    """The head of an answer up to its date."""
    return (
        f"{STATUS_LINES[answer.status]}{answer.fixed.text}{in_lines(answer.varying)}"
        f"Content-Length: {len(answer.body)}\r\n"
    )


def as_response(answer: Answer, *, last: bool) -> web.Response:
    """The same for aiohttp, which writes it."""
    # aiohttp omits the length of an empty answer to HEAD.
    length = (hdrs.CONTENT_LENGTH, str(len(answer.body)))
    response = web.Response(status=answer.status, headers=[*answer.headers, length], body=answer.body)
    if last:
        response.force_close()
    return response


def announces_more(method: str, received: Mapping[str, str]) -> bool:
    """Whether a body or another protocol may follow a request, instead of the next request."""
    return (
        received.get(hdrs.CONTENT_LENGTH, "0") != "0"
        or hdrs.TRANSFER_ENCODING in received
        or hdrs.UPGRADE in received
        or method == hdrs.METH_CONNECT
    )
