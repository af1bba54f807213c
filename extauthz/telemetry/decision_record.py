"""One check as a line of JSON: what the decision log and `tail` hold. docs/reference/decision-log.md describes it."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii

from extauthz.core.check_result import CheckResult
from extauthz.core.decision import Allow
from extauthz.core.reason import OUTCOMES

# Characters of JSON, escapes included: a whole line stays below what a pipe takes at once (4,096 bytes).
PATH_LONGEST, HOST_LONGEST, ROUTE_LONGEST, ID_LONGEST, WORD_LONGEST = 1536, 256, 512, 256, 128

WORDS_KEPT = 1024  # hosts and methods, and as many ids and routes, whose JSON is made once
_NOTHING_ASKED = '"method":"","path":"","host":""'

FIELDS = (
    "time",
    "decision",
    "reason",
    "status",
    "dialect",
    "method",
    "path",
    "host",
    "route",
    "organization_id",
    "api_key_id",
    "subject",
    "cost",
    "request_id",
    "trace_id",
    "duration_us",
    "degraded",
    "worker",
)


class DecisionRecords:
    """Makes lines of JSON, in ASCII, of the checks of one worker."""

    def __init__(self, *, hide: Callable[[str], str], worker: int) -> None:
        """`hide` takes out of a text what could be a key."""
        self._hide = hide
        self._end = f',"worker":{worker}}}\n'
        self._second, self._second_text = 0, ""
        self._word = lru_cache(maxsize=WORDS_KEPT)(self._said)

    def line(self, result: CheckResult) -> bytes:
        """The line of one check, with a newline at its end. No credential is in it, whatever the client sent."""
        request, decision, subject, route = result.request, result.decision, result.subject, result.route
        if request is None:
            asked, request_id = _NOTHING_ASKED, '""'
        else:
            path = self._said(request.path.partition("?")[0], PATH_LONGEST)
            # Cut off before it is remembered, because a client may send 60 KiB of each.
            method = self._word(request.method[:WORD_LONGEST], WORD_LONGEST)
            host = self._word(request.host[:HOST_LONGEST], HOST_LONGEST)
            asked = f'"method":{method},"path":{path},"host":{host}'
            request_id = self._said(request.request_id, WORD_LONGEST)
        if isinstance(decision, Allow):
            decided, status, cost = "allow", 200, decision.cost
            degraded = "true" if decision.degraded else "false"
        else:
            decided, status, cost, degraded = decision.reason.value, OUTCOMES[decision.reason].status, 0, "false"
        trace_id = f'"{traced}"' if (traced := result.trace_id) else "null"
        second = int(result.at)
        if second != self._second:
            self._second, self._second_text = second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return (
            f'{{"time":"{self._second_text}.{int((result.at - second) * 1e6):06d}Z",'
            f'"decision":"{decided}","reason":"{result.why}","status":{status},"dialect":"{result.dialect}",{asked},'
            f'"route":{"null" if route is None else _kept(route.path, ROUTE_LONGEST)},'
            f'"organization_id":{"null" if subject is None else _kept(subject.organization_id, ID_LONGEST)},'
            f'"api_key_id":{"null" if subject is None else _kept(subject.id, ID_LONGEST)},"subject":null,"cost":{cost},'
            f'"request_id":{request_id},"trace_id":{trace_id},"duration_us":{int(result.seconds * 1e6)},'
            f'"degraded":{degraded}{self._end}'
        ).encode()

    def _said(self, text: str, longest: int) -> str:
        """What a client said, as a JSON string."""
        return quoted(self._hide(text[:longest]), longest)


def quoted(text: str, longest: int) -> str:
    """A JSON string in ASCII of at most `longest` characters between its quotes; what is longer is cut off.

    Bytes that are not UTF-8 become `\\xff`: most parsers of JSON refuse half a surrogate.
    """
    if not text.isascii():
        text = _decoded(text[:longest])
    json = encode_basestring_ascii(text)
    while len(json) > longest + 2:
        text = text[: len(text) * longest // len(json)]
        json = encode_basestring_ascii(text)
    return json


_kept = lru_cache(maxsize=WORDS_KEPT)(quoted)


def _decoded(text: str) -> str:
    """A text in which bytes stand as lone surrogates, as the text that these bytes are in UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "backslashreplace").decode()
