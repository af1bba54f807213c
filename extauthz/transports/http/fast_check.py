"""The fast path: plain requests whose check asks nothing but its limits, from bytes to bytes.

The request is recognised, what follows from its credential and route is remembered, its spend joins the call that is
collected, its answer is a template with numbers: synchronous, without task, coroutine or request object. Whatever it
does not take is left to aiohttp as if nothing had happened. docs/adr/0011-a-fast-path-for-plain-requests.md says why.
"""

import asyncio
from time import monotonic, time
from typing import Protocol

import structlog

from extauthz.core.decision import Decision, Deny
from extauthz.core.errors import StoreUnavailable
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.spend import Row, Spend
from extauthz.core.trace import Trace
from extauthz.service.check.remembered import Remembered
from extauthz.transports.http.answers import NO_LENGTH, Kept
from extauthz.transports.http.fast_path import FastPath
from extauthz.transports.http.handler import FAILED, head_of
from extauthz.transports.http.plain import PlainRequest, recognise

_CREDENTIAL = b"\r\nauthorization: "


class Connection(Protocol):
    """What a check was asked by."""

    def finish(self, head: bytes, body: bytes, *, last: bool = False) -> None:
        """Writes an answer, its head up to its date; `last`: the connection ends with it."""
        ...

    def hold_trace(self, trace: Trace) -> None:
        """Keeps the trace that was begun for a request which is left to aiohttp."""
        ...


class FastCheck:
    """The plain request that a connection has under way; a seat of the limiter."""

    __slots__ = (
        "_connection",
        "_credential",
        "_data",
        "_found",
        "_identified_at",
        "_now",
        "_path",
        "_started",
        "spend",
    )

    left = False  # what is asked is charged, whatever becomes of the client
    trace = None  # recorded checks take aiohttp's way

    def __init__(self, path: FastPath, connection: Connection) -> None:
        self._path = path
        self._connection = connection
        self._data = b""  # nothing of a request is kept once it is answered
        self._credential: bytes | None = None
        self._found: Remembered
        self._now = self._started = self._identified_at = 0.0
        self.spend: Spend

    def begin(self, data: bytes) -> bool:
        """Answers a request, now or later. False: it is left to aiohttp, and nothing has happened."""
        recognised = recognise(data)
        if recognised is None:
            return False
        line, authorization = recognised
        path = self._path
        checks = path.checks
        place = path.place(line, data)
        if place is None:
            return False
        self._data, self._credential = data, authorization
        self._started, self._now = started, now = monotonic(), time()
        found = place.always
        if found is None and place.public:
            found = checks.memory.public(place, path.dialect.client_address(PlainRequest(data)))
        elif found is None:
            found = checks.memory.find(place, authorization, now, started)
        if found is not None and path.handler.traces and self._recorded():
            checks.memory.leave(found)
            found = None
        if found is None:
            self._data, self._credential = b"", None
            return False
        self._found = found
        if found.spend is None:
            self._finish_decided(found)
            return True
        self.spend = checks.spend_once(found, self._request()) if checks.charge_once else found.spend
        self._identified_at = monotonic()
        leased = None if checks.leases is None else checks.leases.take(self.spend)
        if leased is None:
            checks.take(self)
        else:
            self.settle(*leased)
        return True

    def settle(self, now: int, row: Row) -> None:
        """The outcome of the spend has come."""
        try:
            path, found = self._path, self._found
            refused, flags, day, month = row[:4]
            kept = found.kept or path.answers.kept(found, self.spend)
            shape = kept.shape
            if refused < 0:
                self._ask_again(now, row)
            elif flags or day != shape.window or month != shape.window or found.shadow or path.checks.watched:
                self._conclude(path.checks.conclude(found, self.spend, now, row))
            elif refused:
                self._refuse(kept, now, row)
            else:
                for place, count in shape.notices:
                    if row[place] >= count:
                        path.checks.note(self.spend, row, Reason.ALLOW)
                        break
                started = self._started
                path.tally.limited(monotonic() - started, self._identified_at - started, shape.tokens)
                self._finish(kept.allowed + shape.fill(shape.left(now, row)) + NO_LENGTH, b"")
        except Exception as bug:  # noqa: BLE001 - told, whatever it is
            self.stop(bug)

    def fail(self, error: Exception) -> None:
        """The outcome of the spend is unknown."""
        if not isinstance(error, StoreUnavailable):
            self.stop(error)
            return
        try:
            self._conclude(self._path.checks.uncharged(self._found))
        except Exception as bug:  # noqa: BLE001 - told, whatever it is
            self.stop(bug)

    def stop(self, bug: BaseException) -> None:
        """Answers a check that has met a bug, which is told whole to the log."""
        structlog.get_logger().error("unhandled_exception", exc_info=bug)
        self._finish(head_of(FAILED).encode("latin-1"), FAILED.body, last=True)

    def _recorded(self) -> bool:
        """Whether the check is to be recorded: then it is left to aiohttp, with the trace that was begun."""
        trace = self._path.handler.begin_trace(PlainRequest(self._data))
        if trace is not None:
            self._connection.hold_trace(trace)
        return trace is not None

    def _request(self) -> CheckRequest:
        return self._path.request_of(self._data, self._now, self._started)

    def _sample(self) -> bytes:
        """The request without its credential, to be kept for a while."""
        data, credential = self._data, self._credential
        if credential is None:
            return data
        begin = data.lower().index(_CREDENTIAL) + len(_CREDENTIAL)  # the same bytes may stand elsewhere in it
        return data[:begin] + b"-" + data[begin + len(credential) :]

    def _finish(self, head: bytes, body: bytes, *, last: bool = False) -> None:
        """Writes the answer; the credential is not kept beyond it."""
        self._data, self._credential = b"", None
        self._connection.finish(head, body, last=last)

    def _finish_decided(self, found: Remembered) -> None:
        """Answers a check that asks no limits."""
        path, decision = self._path, found.decision
        assert decision is not None  # noqa: S101 - limits are not asked
        if path.checks.watched:
            path.checks.told(found, self._request(), decision, 0.0)
        else:
            if isinstance(decision, Deny):
                path.denials.note(found, decision.reason, self._sample(), self._now)
            path.tally.decided(decision.reason, monotonic() - self._started)
        self._finish(*(found.kept or path.answers.decided(found)))

    def _refuse(self, kept: Kept, now: int, row: Row) -> None:
        """Answers a check that its limits refuse."""
        path, found, started = self._path, self._found, self._started
        refusal, head = kept.shape.refuse(now, row)
        path.checks.note(self.spend, row, refusal.reason)
        path.denials.note(found, refusal.reason, self._sample(), self._now)
        path.tally.refused(refusal.reason, monotonic() - started, self._identified_at - started)
        self._finish(head + kept.log(found.subject) + refusal.length, refusal.body)

    def _ask_again(self, now: int, row: Row) -> None:
        self._path.tasks.start(self._go_on(now, row))

    async def _go_on(self, now: int, row: Row) -> None:
        """Asks again where nothing has happened: counters were not there, or windows did not fit."""
        try:
            self._conclude(await self._path.checks.go_on(self._found, self.spend, now, row))
        except Exception as bug:  # noqa: BLE001 - told, whatever it is
            self.stop(bug)
        except asyncio.CancelledError as end:
            self.stop(end)  # the connection must not wait for ever
            raise

    def _conclude(self, decision: Decision) -> None:
        """Tells every observer of a decision, and answers it as the pipeline's are answered."""
        path = self._path
        result = path.checks.told(self._found, self._request(), decision, self._identified_at)
        answer = path.handler.render(result)
        self._finish(head_of(answer).encode("latin-1"), answer.body)
