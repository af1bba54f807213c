"""Traces: the header by which a proxy says of which one a request is part, and what is recorded of a check for it."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_LENGTH = 55  # of version 00; a later one begins alike
STATE_LONGEST = 512  # characters of a `tracestate`; a longer one is left out
_SAMPLED = frozenset("13579bdf")  # the last digit of the flags, where their lowest bit is set


class TraceParent(NamedTuple):
    """The span of the proxy that asks: both ids in hex, and whether the proxy records its trace."""

    trace_id: str
    span_id: str
    sampled: bool


def read_sampled(text: str) -> bool | None:
    """Whether the proxy records the trace of a header; None where that is absent or malformed, and so to be ignored.

    W3C Trace Context §3.2.2.
    """
    # Version 00 ends with its flags; of a later one what follows them is not for us.
    if _TRACEPARENT.fullmatch(text) is None or (len(text) > _LENGTH and text.startswith("00")):
        return None
    return text[_LENGTH - 1] in _SAMPLED


def parse_traceparent(text: str) -> TraceParent | None:
    """The parent that a header names; None as for `read_sampled`."""
    sampled = read_sampled(text)
    return None if sampled is None else TraceParent(text[3:35], text[36:52], sampled)


@dataclass(slots=True, eq=False)
class Trace:
    """What is recorded of one check: the ids of its span in hex, and the calls of stores that it waited for.

    `parent_id` is empty where the check begins the trace. `state` is the proxy's `tracestate`. `cache_layer` is where
    the key's record came from: `process`, `redis` or `postgresql`; empty where no key was looked up.
    """

    trace_id: str
    span_id: str
    parent_id: str
    state: str = ""
    cache_layer: str = ""
    calls: "list[StoreCall]" = field(default_factory=list, repr=False)


@dataclass(slots=True, eq=False)
class StoreCall:
    """One call of a store, which several checks may share: `size` of them in all, `traces` of those that are recorded.

    Times are monotonic seconds; `ended` is None while it is under way. `error` is the reason of a failure.
    """

    store: str
    operation: str
    span_id: str
    size: int
    traces: tuple[Trace, ...]
    started: float
    ended: float | None = None
    error: str = ""
