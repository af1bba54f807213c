"""What the fast checks of one listener share: where requests lead, their answers, and what is counted of them."""

import re
from collections.abc import Hashable, Sequence

from extauthz.aio.tasks import TaskSet
from extauthz.core.decision import Deny
from extauthz.core.observers import CheckTally, DenialObserver
from extauthz.core.request import CheckRequest
from extauthz.core.routes import Match
from extauthz.service.check.fast import FastChecks
from extauthz.service.check.remembered import PLACES_MAX, Bounded, Place
from extauthz.transports.http.answers import Answers
from extauthz.transports.http.denials import Denials
from extauthz.transports.http.handler import CheckHandler
from extauthz.transports.http.plain import PlainRequest, in_any_case

Pairs = Sequence[tuple[bytes, bytes]]

# A segment that every reader understands alike, and that stands for no other one.
_SEGMENT = re.compile(rb"[0-9A-Za-z_~-]+(?:\.[0-9A-Za-z_~-]+)*")


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
        self.denials = Denials(handler.dialect, self.request_of, observer)
        self.tasks = TaskSet()
        # Finds the headers that, with the request line, decide where a request leads.
        headers = handler.dialect.asked_in(hosts=checks.names_hosts)
        self._asked_in = _finder(headers) if headers else None
        # By what the headers of this dialect say: the same values lead elsewhere in another one.
        self._places: Bounded[Hashable, Place] = Bounded(PLACES_MAX)
        # The same of those whose last segment says nothing, as an id mostly does, by all but that segment.
        self._places_above: Bounded[Hashable, Place] = Bounded(PLACES_MAX)
        # Paths are many, routes are few: a path that was never asked for leads to a place that is there.
        self._places_of: Bounded[Match | Deny, Place] = Bounded(PLACES_MAX)

    def place(self, line: bytes, data: bytes) -> Place | None:
        """Where a request leads; None where it asks nothing."""
        pairs = () if self._asked_in is None else self._asked_in.findall(data)
        name = (line, *pairs) if pairs else line
        found = self._places.get(name)
        if found is None:
            above = _above(line, pairs)
            found = self._places_above.get(above) or self._new_place((name, above), line, pairs)
        return found

    def request_of(self, data: bytes, now: float, started: float = 0.0) -> CheckRequest:
        """The request as the pipeline would see it, where it has a place."""
        request = PlainRequest(data)
        question = self.dialect.read(request.method, request.target, request)
        assert question is not None  # noqa: S101 - its place is one that a question leads to
        return self.handler.request_of(question, request, now=now, started=started)

    def _new_place(self, names: tuple[Hashable, Hashable], line: bytes, pairs: Pairs) -> Place | None:
        method, _, target = line.decode("ascii").partition(" ")
        asked = self.dialect.asked(method, target, _AskedIn(pairs))
        if asked is None:
            return None
        found = self.checks.find_route(asked.method, asked.host, asked.path)
        place = self._places_of.get(found)
        if place is None:
            place = Place(found, door=self.dialect.name)
            self._places_of.put(found, place)
        name, above = names
        self._places.put(name, place)
        if above is not None and asked.path.startswith("/") and self.checks.takes_any_end(asked.path):
            self._places_above.put(above, place)
        return place


class _AskedIn:
    """The headers of a request that decide where it leads."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def getall(self, key: str, default: list[str]) -> list[str]:
        """Every value of a header, in order; `default` where it is absent."""
        name = key.encode("ascii")
        return [value.decode("ascii") for each, value in self._pairs if each.lower() == name] or default


def _above(line: bytes, pairs: Pairs) -> Hashable:
    """What a name of a place is without the last segment of its path; None where that segment is not a plain one."""
    if not pairs:
        above, _, segment = line.rpartition(b"/")
        return above if _SEGMENT.fullmatch(segment) else None
    names: list[Hashable] = [line]
    paths = 0
    for header, value in pairs:
        above, slash, segment = value.rpartition(b"/")
        if slash:
            paths += 1
            if not _SEGMENT.fullmatch(segment):
                return None
        names.append((header, above, slash, segment if not slash else b""))
    return tuple(names) if paths == 1 else None


def _finder(headers: Sequence[str]) -> re.Pattern[bytes]:
    """Finds those headers in a plain request: names, as they are written, and values.

    A value that has a `/` ends before a `?`: that is a path or a URL, and a query does not say where it leads. A method
    or a host with a `?` is left whole, since it is none.
    """
    names = b"|".join(map(in_any_case, headers))
    return re.compile(rb"\r\n(" + names + rb"): ([^\r?/]*+/[^\r?]*|[^\r]*)")
