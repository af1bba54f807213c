"""CheckRequest: the one neutral form of "may this request pass?", and how every door makes it of a proxy's question."""

from dataclasses import dataclass
from typing import NamedTuple

from extauthz.core.trace import Trace


@dataclass(slots=True)
class CheckRequest:
    """What a proxy asked, freed of the proxy's dialect.

    `path` is the raw target with its query; bytes above 0x7F stand in it as lone surrogates. `host` is as it was sent,
    empty where it is missing or repeated. `authorization` holds every `Authorization` header in order. `now` is the
    wall clock in Unix seconds and `started` the monotonic clock in seconds, both read once, when the request arrived;
    `deadline` is the monotonic second at which the answer is due. `traceparent` is as it was sent, empty where it is
    missing, repeated, or of no use to this process; `trace` is None where the check is not recorded.
    """

    dialect: str
    method: str
    path: str
    host: str
    authorization: tuple[str, ...]
    request_id: str
    client_address: str
    now: float
    started: float
    deadline: float
    traceparent: str = ""
    trace: Trace | None = None


class Question(NamedTuple):
    """What a proxy asked. `time_left` is the proxy's own timeout in seconds, where it says a usable one."""

    method: str
    path: str
    host: str
    authorization: tuple[str, ...]
    request_id: str
    client_address: str
    time_left: float | None = None


class RequestBuilder:
    """Makes the requests of one listener."""

    def __init__(self, dialect: str, *, deadline: float) -> None:
        """`dialect` as metrics and logs call the listener; `deadline` is the seconds that one check may take."""
        self._dialect = dialect
        self._deadline = deadline

    def build(self, question: Question, *, now: float, started: float, traceparent: str = "") -> CheckRequest:
        """The request of a question that came at `now` (Unix seconds), `started` on the monotonic clock."""
        patience = self._deadline
        if question.time_left is not None:
            patience = min(patience, question.time_left)
        return CheckRequest(
            dialect=self._dialect,
            method=question.method,
            path=question.path,
            host=question.host,
            authorization=question.authorization,
            request_id=question.request_id,
            client_address=question.client_address,
            now=now,
            started=started,
            deadline=started + patience,
            traceparent=traceparent,
        )
