"""What is told of a recorded check, taken out of it when it is decided: afterwards nothing of it is kept alive."""

import random
from typing import NamedTuple

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Decision
from extauthz.core.rejections import PATH_LONGEST, WORD_LONGEST
from extauthz.core.trace import Trace


class FinishedCall(NamedTuple):
    """A call of a store as it was when its check was decided. Times in Unix seconds.

    `links` are (trace, span) ids: of all the checks that share the call, where this is its own span, which stands in
    the trace of the first of them; in the traces of the others, of that span.
    """

    store: str
    operation: str
    span_id: str
    size: int
    started: float
    ended: float
    error: str
    links: tuple[tuple[str, str], ...]


class FinishedCheck(NamedTuple):
    """What is told of a recorded check: no header and no credential is part of it."""

    trace: Trace
    dialect: str
    method: str
    host: str
    path: str
    route: str
    organization_id: str
    api_key_id: str
    decision: Decision
    why: str
    started: float
    ended: float
    calls: tuple[FinishedCall, ...]


def finished(result: CheckResult, trace: Trace) -> FinishedCheck:
    """What is told of a check."""
    request, subject = result.request, result.subject
    return FinishedCheck(
        trace,
        result.dialect,
        method="" if request is None else request.method[:WORD_LONGEST],
        host="" if request is None else request.host[:PATH_LONGEST],
        path="" if request is None else request.path.partition("?")[0][:PATH_LONGEST],
        route="" if result.route is None else result.route.path,
        organization_id="" if subject is None else subject.organization_id,
        api_key_id="" if subject is None else subject.id,
        decision=result.decision,
        why=result.why,
        started=result.at,
        ended=result.at + result.seconds,
        calls=() if request is None else _calls(trace, result.at - request.started, result.at + result.seconds),
    )


def _calls(trace: Trace, epoch: float, decided_at: float) -> tuple[FinishedCall, ...]:
    """The calls of a check. One that is still under way was given up. `epoch` plus monotonic seconds is Unix time."""
    calls = []
    for call in trace.calls:
        first = call.traces[0]
        if first is trace:
            span_id = call.span_id
            links = tuple([(each.trace_id, each.span_id) for each in call.traces]) if len(call.traces) > 1 else ()
        else:  # the call's own span is in the trace of the first check
            span_id, links = new_span_id(), ((first.trace_id, call.span_id),)
        ended = decided_at if call.ended is None else epoch + call.ended
        error = "deadline" if call.ended is None else call.error
        calls.append(
            FinishedCall(call.store, call.operation, span_id, call.size, epoch + call.started, ended, error, links)
        )
    return tuple(calls)


def new_span_id() -> str:
    """A new id, which must not be zero."""
    return f"{random.getrandbits(64) or 1:016x}"
