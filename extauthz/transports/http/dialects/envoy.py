"""Envoy's `ext_authz` HTTP service (extensions/filters/http/ext_authz/v3/ext_authz.proto)."""

from collections.abc import Sequence

from extauthz.core import headers
from extauthz.core.decision import Allow, Decision
from extauthz.transports.http import render
from extauthz.transports.http.dialect import Answer, Headers, Question, ReceivedHeaders, Wording, last_address, only


class Envoy:
    """The request line is the question. `path_prefix` is what Envoy was told to put before the path."""

    name = "envoy"

    def __init__(self, wording: Wording, *, path_prefix: str = "") -> None:
        self._wording = wording
        self._path_prefix = path_prefix

    def read(self, method: str, target: str, received: ReceivedHeaders) -> Question | None:
        """The question of a request; None where the target lacks the prefix."""
        if not target.startswith(self._path_prefix):
            return None
        path = target[len(self._path_prefix) :]
        if not path:
            return None
        patience = only(received, headers.ENVOY_TIME_LEFT)
        return Question(
            method=method,
            path=path,
            host=only(received, headers.HOST),
            authorization=tuple(received.getall(headers.AUTHORIZATION, [])),
            request_id=only(received, headers.REQUEST_ID),
            client_address=last_address(received, headers.FORWARDED_FOR),
            time_left=int(patience) / 1000
            if patience.isascii() and patience.isdigit() and len(patience) < 10
            else None,
        )

    def render(self, decision: Decision) -> Answer:
        """The true status, a problem+json body on refusals; names to remove in one header on allow."""
        if isinstance(decision, Allow):
            return render.allow(decision, self._wording, _to_remove)
        return render.deny(decision, self._wording)


def _to_remove(names: Sequence[str]) -> Headers:
    return [(headers.ENVOY_REMOVE, ",".join(names))] if names else []
