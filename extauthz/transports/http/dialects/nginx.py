"""nginx's `auth_request` (ngx_http_auth_request_module): a GET without body; it understands 2xx, 401 and 403."""

import re

from extauthz.core import headers
from extauthz.core.decision import Allow, Decision
from extauthz.transports.http import render
from extauthz.transports.http.dialect import Answer, Question, ReceivedHeaders, Wording, only

_UNDERSTOOD = frozenset({401, 403, 503})
# A path alone is no URL: a `://` in its query is the client's and would name another path.
_URL = re.compile(r"https?://[^/?#]*(/.*)", re.DOTALL)


class Nginx:
    """The question stands in `X-Original-Method` and `X-Original-URI`."""

    name = "nginx"

    def __init__(self, wording: Wording) -> None:
        self._wording = wording

    def read(self, method: str, target: str, received: ReceivedHeaders) -> Question | None:
        """The question of a subrequest; None where method or path are missing, empty or repeated."""
        original_method = only(received, headers.ORIGINAL_METHOD)
        path = _path(received)
        if not original_method or not path:
            return None
        return Question(
            method=original_method,
            path=path,
            host=only(received, headers.ORIGINAL_HOST),
            authorization=tuple(received.getall(headers.AUTHORIZATION, [])),
            request_id=only(received, headers.REQUEST_ID),
            client_address=only(received, headers.REAL_IP),
        )

    def render(self, decision: Decision) -> Answer:
        """200, 401, 403 or 503 with an empty body: a body would cost nginx its connection to us."""
        if isinstance(decision, Allow):
            return render.allow(decision, self._wording, render.emptied)
        return render.deny_in_headers(decision, self._wording, _UNDERSTOOD)


def _path(received: ReceivedHeaders) -> str:
    if received.getall(headers.ORIGINAL_URI, []):
        return only(received, headers.ORIGINAL_URI)
    url = _URL.fullmatch(only(received, headers.ORIGINAL_URL))
    return url[1] if url else ""
