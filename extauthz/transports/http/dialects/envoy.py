"""Envoy's `ext_authz` HTTP service (extensions/filters/http/ext_authz/v3/ext_authz.proto)."""

from collections.abc import Sequence

from extauthz.core import headers
from extauthz.core.decision import Allow, Decision
from extauthz.core.request import Question
from extauthz.transports.http import render
from extauthz.transports.http.dialect import (
    Answer,
    Asked,
    Headers,
    ReceivedHeaders,
    Wording,
    last_address,
    only,
)

TIME_LEFT_MIN = 20  # milliseconds; with fewer a check of a key that is not cached would end as if PostgreSQL were away


class Envoy:
    """The request line is the question. `path_prefix` is what Envoy was told to put before the path."""

    name = "envoy"

    def __init__(self, wording: Wording, *, path_prefix: str = "") -> None:
        self._wording = wording
        self._path_prefix = path_prefix

    def read(self, method: str, target: str, received: ReceivedHeaders) -> Question | None:
        """The question of a request; None where the target lacks the prefix."""
        asked = self.asked(method, target, received)
        if asked is None:
            return None
        return Question(
            *asked,
            authorization=tuple(received.getall(headers.AUTHORIZATION, [])),
            request_id=only(received, headers.REQUEST_ID),
            client_address=self.client_address(received),
            time_left=_seconds(only(received, headers.ENVOY_TIME_LEFT)),
        )

    def asked(self, method: str, target: str, received: ReceivedHeaders) -> Asked | None:
        """What is asked for; see Dialect."""
        path = target.removeprefix(self._path_prefix)
        if not path or not target.startswith(self._path_prefix):
            return None
        return Asked(method, path, only(received, headers.HOST))

    def client_address(self, received: ReceivedHeaders) -> str:
        """The last of `X-Forwarded-For`; see Dialect."""
        return last_address(received, headers.FORWARDED_FOR)

    def asked_in(self, *, hosts: bool) -> Sequence[str]:
        """Where the question stands; see Dialect."""
        return (headers.HOST,) if hosts else ()

    def render(self, decision: Decision) -> Answer:
        """The true status, a problem+json body on refusals; names to remove in one header on allow."""
        if isinstance(decision, Allow):
            return render.allow(decision, self._wording, _to_remove)
        return render.deny(decision, self._wording)


def _seconds(time_left: str) -> float | None:
    """Whole milliseconds in seconds; None where there are fewer than any check needs, or where it is another text."""
    if not (time_left.isascii() and time_left.isdigit() and len(time_left) < 10):
        return None
    milliseconds = int(time_left)
    return milliseconds / 1000 if milliseconds >= TIME_LEFT_MIN else None


def _to_remove(names: Sequence[str]) -> Headers:
    return [(headers.ENVOY_REMOVE, ",".join(names))] if names else []
