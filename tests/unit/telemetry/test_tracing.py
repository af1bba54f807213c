"""Which checks are recorded as spans, and with which attributes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow, deny
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.trace import Trace
from extauthz.service.store_calls import begin_call, end_call
from extauthz.telemetry.finished import FinishedCheck, finished
from extauthz.telemetry.tracing import Tracing

IDS = st.integers(1, (1 << 128) - 1)
THEIRS: dict[str, Any] = {
    "always_on": lambda _: sampling.ALWAYS_ON,
    "always_off": lambda _: sampling.ALWAYS_OFF,
    "traceidratio": sampling.TraceIdRatioBased,
    "parentbased_always_on": lambda _: sampling.ParentBased(sampling.ALWAYS_ON),
    "parentbased_always_off": lambda _: sampling.ParentBased(sampling.ALWAYS_OFF),
    "parentbased_traceidratio": lambda share: sampling.ParentBased(sampling.TraceIdRatioBased(share)),
}


class Queue:
    """A stand-in for the sender; `items` is what it was given."""

    def __init__(self) -> None:
        self.items: list[tuple[FinishedCheck, int]] = []

    def put(self, item: FinishedCheck, count: int) -> None:
        self.items.append((item, count))


def tracing(sampler: str = "always_on", share: float = 1.0, queue: Any = None) -> Tracing:
    sending: Any = Queue() if queue is None else queue
    return Tracing(sampler, share, sending)


@given(st.sampled_from(sorted(THEIRS)), st.floats(0, 1), IDS, st.booleans())
def test_samplers_agree_with_those_of_the_sdk(sampler: str, share: float, trace_id: int, recorded: bool) -> None:
    """For a check with a parent: the same are kept, so that one share holds for proxy and service."""
    flags = TraceFlags(int(recorded))
    span = NonRecordingSpan(SpanContext(trace_id, 1, is_remote=True, trace_flags=flags))
    theirs = THEIRS[sampler](share).should_sample(set_span_in_context(span), trace_id, "check")
    trace = tracing(sampler, share).begin(f"00-{trace_id:032x}-{1:016x}-{int(flags):02x}")
    assert (trace is not None) == (theirs.decision == sampling.Decision.RECORD_AND_SAMPLE)
    assert trace is None or (int(trace.trace_id, 16), trace.parent_id) == (trace_id, f"{1:016x}")


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_a_share_of_the_checks_without_a_parent(sampler: str) -> None:
    """About that share of them is recorded, each with ids of its own."""
    some = tracing(sampler, 0.25)
    kept = [trace for trace in (some.begin("") for _ in range(8000)) if trace is not None]
    assert 1600 < len(kept) < 2400
    assert all(int(trace.trace_id[16:], 16) < 1 << 62 and trace.parent_id == "" for trace in kept)
    assert len({trace.trace_id for trace in kept} | {trace.span_id for trace in kept}) == 2 * len(kept)


def result(trace: Trace | None, **request: Any) -> CheckResult:
    asked: dict[str, Any] = {
        "dialect": "envoy",
        "method": "GET",
        "path": "/",
        "host": "",
        "authorization": ("Bearer s3cret",),
        "request_id": "",
        "client_address": "",
        "now": 1000.0,
        "started": 50.0,
        "deadline": 51.0,
    }
    return CheckResult("envoy", CheckRequest(**asked | request), 1000.0, Allow(), seconds=0.5, trace=trace)


def test_unrecorded_checks_have_no_spans() -> None:
    """Of the others every span is counted, should the check not be sent."""
    queue = Queue()
    all_of_them = tracing(queue=queue)
    all_of_them.decided(result(None))
    trace = all_of_them.begin("")
    end_call(begin_call("redis", "spend", [trace], 1))
    all_of_them.decided(result(trace))
    assert [(check.trace, count) for check, count in queue.items] == [(trace, 2)]


def test_spans_keep_only_reported_parts_of_a_request() -> None:
    """No header, no query, and only the start of a long path."""
    trace = Trace("a" * 32, "b" * 16, "")
    told = finished(result(trace, path=f"/{'p' * 1000}?s3cret", host="h" * 1000, method="M" * 1000), trace)
    assert "s3cret" not in repr(told)
    assert (len(told.path), len(told.host), len(told.method)) == (256, 256, 128)


def test_a_call_that_was_given_up() -> None:
    """What is still under way when a check is decided ends with it, as late."""
    trace = Trace("a" * 32, "b" * 16, "")
    call = begin_call("postgresql", "api_key", [trace], 3)
    assert call is not None
    call.started = 50.25
    (told,) = finished(result(trace), trace).calls
    assert (told.started, told.ended, told.error, told.size) == (1000.25, 1000.5, "deadline", 3)


def test_a_shared_call() -> None:
    """Its own span is in the trace of the first check; each of the others has one that links to it."""
    first, second = (Trace(name * 32, name * 16, "") for name in "ab")
    call = begin_call("redis", "spend", [None, first, second], 3)
    assert call is not None
    end_call(call, ValueError())
    (own,), (other,) = (finished(result(trace), trace).calls for trace in (first, second))
    assert own.span_id == call.span_id != other.span_id
    assert own.links == (("a" * 32, "a" * 16), ("b" * 32, "b" * 16))
    assert other.links == (("a" * 32, call.span_id),)
    assert own.error == other.error == "ValueError"
    assert begin_call("redis", "spend", [None], 1) is None


def test_check_without_calls() -> None:
    """Its only span is the decision."""
    trace = Trace("a" * 32, "b" * 16, "")
    refused = CheckResult("nginx", None, 1000.0, deny(Reason.BAD_PROXY_REQUEST), trace=trace)
    told = finished(refused, trace)
    assert (told.dialect, told.method, told.path, told.calls) == ("nginx", "", "", ())
    assert refused.trace_id == "a" * 32
