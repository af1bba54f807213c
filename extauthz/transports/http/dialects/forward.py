"""Forward auth, as Caddy and HAProxy ask: 200 allows, everything else goes to the client as it is."""

from collections.abc import Sequence

from extauthz.core import headers
from extauthz.core.decision import Allow, Decision
from extauthz.core.request import Question
from extauthz.transports.http import render
from extauthz.transports.http.dialect import (
    Answer,
    Asked,
    ReceivedHeaders,
    Wording,
    asked_method,
    last_address,
    only,
)


class Forward:
    """The question stands in `X-Forwarded-Method` and `X-Forwarded-Uri`."""

    name = "forward"

    def __init__(self, wording: Wording) -> None:
        self._wording = wording

    def read(self, method: str, target: str, received: ReceivedHeaders) -> Question | None:
        """The question of a request; None where method or path are missing, empty or repeated."""
        asked = self.asked(method, target, received)
        if asked is None:
            return None
        return Question(
            *asked,
            authorization=tuple(received.getall(headers.AUTHORIZATION, [])),
            request_id=only(received, headers.REQUEST_ID),
            client_address=self.client_address(received),
        )

    def asked(self, method: str, target: str, received: ReceivedHeaders) -> Asked | None:
        """What is asked for; see Dialect."""
        forwarded_method = asked_method(received, headers.FORWARDED_METHOD)
        path = only(received, headers.FORWARDED_URI)
        if not forwarded_method or not path:
            return None
        return Asked(forwarded_method, path, only(received, headers.FORWARDED_HOST))

    def client_address(self, received: ReceivedHeaders) -> str:
        """The last of `X-Forwarded-For`; see Dialect."""
        return last_address(received, headers.FORWARDED_FOR)

    def asked_in(self, *, hosts: bool) -> Sequence[str]:
        """Where the question stands; see Dialect."""
        names = (headers.FORWARDED_METHOD, headers.FORWARDED_URI)
        return (*names, headers.FORWARDED_HOST) if hosts else names

    def render(self, decision: Decision) -> Answer:
        """The true status, a problem+json body on refusals; names without a value are empty on allow."""
        if isinstance(decision, Allow):
            return render.allow(decision, self._wording, render.emptied)
        return render.deny(decision, self._wording)
