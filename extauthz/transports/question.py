"""What a proxy asked, whichever protocol it came in, and the CheckRequest that every door makes of it."""

from typing import NamedTuple

from extauthz.core.request import CheckRequest


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
