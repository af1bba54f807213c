"""`traceparent` as W3C Trace Context describes it, and as clients send it."""

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.check_result import CheckResult
from extauthz.core.request import CheckRequest
from extauthz.core.trace import TraceParent, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEX = st.text("0123456789abcdef", min_size=1)


PARENTS = {
    f"00-{TRACE}-{SPAN}-01": True,
    f"00-{TRACE}-{SPAN}-00": False,
    f"00-{TRACE}-{SPAN}-03": True,  # the second bit is for others
    f"00-{TRACE}-{SPAN}-fe": False,
    f"cc-{TRACE}-{SPAN}-01": True,
    f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like": True,
}


def test_parents() -> None:
    """Ids as they stand there, and the first bit of the flags; a later version may say more."""
    for text, sampled in PARENTS.items():
        assert parse_traceparent(text) == TraceParent(TRACE, SPAN, sampled)


INVALID = [
    "",
    "00",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}-001",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-01\n",
    f" 00-{TRACE}-{SPAN}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"cc-{TRACE}-{SPAN}-01.more",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE[1:]}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}0-01",
    f"00-{TRACE}-{SPAN}-0x",
    f"00-{TRACE}-{SPAN[:-1]}g-01",
    f"00-{TRACE}-{SPAN[:-1]}٣-01",
    f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
]


def test_invalid_parents() -> None:
    """A malformed header is ignored, whatever is wrong with it."""
    assert [text for text in INVALID if parse_traceparent(text) is not None] == []


@given(st.one_of(st.text(), st.builds("{}-{}-{}-{}{}".format, HEX, HEX, HEX, HEX, st.text())))
def test_any_text(text: str) -> None:
    """No text raises an error, and accepted ones are those that OpenTelemetry accepts."""
    parent = parse_traceparent(text)
    assert parent is None or (int(parent.trace_id, 16) and int(parent.span_id, 16))


def test_the_trace_of_a_result() -> None:
    """The trace's id, for logs; empty without a parent, and where nothing was asked."""
    request = CheckRequest("envoy", "GET", "/", "", (), "", "", 0.0, 0.0, 0.0, f"00-{TRACE}-{SPAN}-00")
    assert CheckResult("envoy", request, 0.0).trace_id == TRACE
    request.traceparent = "malformed"
    assert CheckResult("envoy", request, 0.0).trace_id == ""
    assert CheckResult("envoy", None, 0.0).trace_id == ""
