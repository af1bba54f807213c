"""Records calls of stores in the traces of the checks that wait for them."""

import random
from collections.abc import Iterable
from time import monotonic

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import Store
from extauthz.core.trace import StoreCall, Trace


def begin_call(store: Store, operation: str, traces: Iterable[Trace | None], size: int) -> StoreCall | None:
    """A call that begins now for `size` checks; None where none of them is recorded, as most are not."""
    recorded = tuple([trace for trace in traces if trace is not None])
    if not recorded:
        return None
    span_id = f"{random.getrandbits(64) or 1:016x}"
    call = StoreCall(store, operation, span_id, size, recorded, monotonic())
    for trace in recorded:
        trace.calls.append(call)
    return call


def end_call(call: StoreCall | None, error: BaseException | None = None) -> None:
    """The call is over, by `error` where it failed."""
    if call is not None:
        call.ended = monotonic()
        if error is not None:
            call.error = error.reason if isinstance(error, StoreUnavailable) else type(error).__name__
