"""Calls of stores: bounded in time where no circuit breaker bounds them, and recorded in the traces of checks."""

import random
from collections.abc import Coroutine, Iterable
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from extauthz.aio.tasks import result_or_cancel
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import Store
from extauthz.core.trace import StoreCall, Trace

T = TypeVar("T")


async def bounded_call(call: Coroutine[Any, Any, T], seconds: float, store: Store) -> T:
    """Return the result of a call that no check waits for, and that does not count for the circuit breaker.

    Raises StoreUnavailable, where it takes longer than `seconds` as well; its outcome is then unknown.
    """
    return await result_or_cancel(call, seconds, late=partial(StoreUnavailable, store, "timeout"))


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
