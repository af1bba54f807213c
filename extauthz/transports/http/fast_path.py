"""What the fast checks of one listener share: where requests lead, their answers, and what is counted of them."""

import asyncio
from collections.abc import Hashable

from extauthz.core.decision import Deny
from extauthz.core.ports import CheckTally, DenialObserver
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match
from extauthz.service.check.fast import FastChecks
from extauthz.service.check.remembered import PLACES_MAX, Bounded, Place
from extauthz.transports.http.answers import Answers
from extauthz.transports.http.denials import Denials
from extauthz.transports.http.handler import CheckHandler
from extauthz.transports.http.plain import PlainRequest


class FastPath:
    """What the connections of one listener share."""

    def __init__(
        self, checks: FastChecks, handler: CheckHandler, *, tally: CheckTally, observer: DenialObserver
    ) -> None:
        """`tally` and `observer` are told of checks that no observer of the service is told of."""
        self.checks = checks
        self.handler = handler
        self.tally = tally
        self.dialect = handler.dialect
        self.answers = Answers(handler)
        self.denials = Denials(handler.dialect.name, handler.dialect.address_in, self.request_of, observer)
        self.tasks: set[asyncio.Task[None]] = set()
        # How the lines begin of the headers that, with the request line, decide where a request leads.
        headers = handler.dialect.asked_in(hosts=checks.names_hosts)
        self._asked_in = [f"\r\n{header}: ".encode("ascii") for header in headers]
        # By what the headers of this dialect say: the same values lead elsewhere in another one.
        self._places: Bounded[Hashable, Place] = Bounded(PLACES_MAX)
        # Paths are many, routes are few: a path that was never asked for leads to a place that is there.
        self._places_of: Bounded[Match | Deny, Place] = Bounded(PLACES_MAX)

    def place(self, line: bytes, data: bytes) -> Place | None:
        """Where a request leads; None where it is no question, or one whose headers are repeated."""
        name: Hashable = line
        if self._asked_in:
            name = self._name(line, data)
            if name is None:
                return None
        return self._places.get(name) or self._new_place(name, PlainRequest(data))

    def request_of(self, data: bytes, now: float, started: float = 0.0) -> CheckRequest:
        """The request as the pipeline would see it, where it has a place."""
        request = PlainRequest(data)
        question = self.dialect.read(request.method, request.target, request)
        assert question is not None  # noqa: S101 - its place is one that a question leads to
        return self.handler.request_of(question, request, now=now, started=started)

    def _name(self, line: bytes, data: bytes) -> tuple[bytes, ...] | None:
        """All that decides where a request leads; what stands behind a `?` does not. None: a header is repeated."""
        values, names = [line], data.lower()
        for begin in self._asked_in:
            at = names.find(begin)
            if at < 0:
                values.append(b"")
                continue
            at += len(begin)
            end = data.index(b"\r\n", at)
            if names.find(begin, end) >= 0:
                return None
            value = data[at:end]
            path = value.partition(b"?")[0]
            values.append(path if b"/" in path else value)  # no method and no host has a slash
        return tuple(values)

    def _new_place(self, name: Hashable, request: PlainRequest) -> Place | None:
        asked = self.dialect.asked(request.method, request.target, request)
        if asked is None:
            return None
        found = self.checks.find_route(asked.method, asked.host, asked.path)
        place = self._places_of.get(found)
        if place is None:
            place = Place(found, door=self.dialect.name)
            self._places_of.put(found, place)
        self._places.put(name, place)
        return place
