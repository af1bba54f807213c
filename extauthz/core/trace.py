"""The header by which a proxy says of which trace a request is part (W3C Trace Context, `traceparent`)."""

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01


class TraceParent(NamedTuple):
    """The span of the proxy that asks: both ids in hex, and whether the proxy records its trace."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(text: str) -> TraceParent | None:
    """The parent that a header names; None where it is absent or malformed, and so is to be ignored (§3.2.2)."""
    match = _TRACEPARENT.fullmatch(text)
    # Version 00 ends with its flags; of a later one what follows them is not for us.
    if match is None or (match[5] is not None and match[1] == "00"):
        return None
    return TraceParent(match[2], match[3], bool(int(match[4], 16) & _SAMPLED))
