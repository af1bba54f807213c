"""nginx's `auth_request` (ngx_http_auth_request_module): a GET without body; it understands 2xx, 401 and 403."""

import re
from collections.abc import Sequence
from typing import Literal

from extauthz.core import headers
from extauthz.core.decision import Allow, Decision
from extauthz.core.request import Question
from extauthz.transports.http import render
from extauthz.transports.http.dialect import Answer, Asked, ReceivedHeaders, Wording, asked_method, only

NginxQuestion = Literal["uri", "url"]

_UNDERSTOOD = frozenset({401, 403, 503})
# Scheme, authority and path of a URL (RFC 3986 §3). A path alone is not one: a `://` in its query is the client's. A
# backslash in the authority begins the path for some readers.
_URL = re.compile(r"(?i:https?)://([^/?#\\]*)(/.*)", re.DOTALL)


class Nginx:
    """The question stands in `X-Original-Method` and in `X-Original-URI` or, for the question `url`, `X-Original-URL`.

    Only the configured one is read; the header that belongs to the other question makes a request unreadable, because
    it is then a client's own, or the proxy is set up for the other one.
    """

    name = "nginx"

    def __init__(self, wording: Wording, *, question: NginxQuestion = "uri") -> None:
        self._wording = wording
        self._target = _from_uri if question == "uri" else _from_url

    def read(self, method: str, target: str, received: ReceivedHeaders) -> Question | None:
        """The question of a subrequest; None where method or path are missing, empty, repeated or said in two ways."""
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
        original_method, original = asked_method(received, headers.ORIGINAL_METHOD), self._target(received)
        if not original_method or original is None:
            return None
        host, path = original
        return Asked(original_method, path, host)

    def client_address(self, received: ReceivedHeaders) -> str:
        """`X-Real-IP`; see Dialect."""
        return only(received, headers.REAL_IP)

    def asked_in(self, *, hosts: bool) -> Sequence[str]:
        """Where the question stands; see Dialect."""
        return headers.ORIGINAL_METHOD, headers.ORIGINAL_URI, headers.ORIGINAL_URL, headers.ORIGINAL_HOST

    def render(self, decision: Decision) -> Answer:
        """200, 401, 403 or 503 with an empty body: a body would cost nginx its connection to us."""
        if isinstance(decision, Allow):
            return render.allow(decision, self._wording, render.emptied)
        return render.deny_in_headers(decision, self._wording, _UNDERSTOOD)


def _from_uri(received: ReceivedHeaders) -> tuple[str, str] | None:
    """Host and path of `X-Original-Host` and `X-Original-URI`."""
    path = only(received, headers.ORIGINAL_URI)
    if not path or received.getall(headers.ORIGINAL_URL, []):
        return None
    return only(received, headers.ORIGINAL_HOST), path


def _from_url(received: ReceivedHeaders) -> tuple[str, str] | None:
    """Host and path of `X-Original-URL`; a host that is missing there is empty."""
    if received.getall(headers.ORIGINAL_URI, []) or received.getall(headers.ORIGINAL_HOST, []):
        return None
    url = _URL.fullmatch(only(received, headers.ORIGINAL_URL))
    return None if url is None else (url[1], url[2])
