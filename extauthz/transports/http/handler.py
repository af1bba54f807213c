"""Bytes to CheckRequest, Decision to bytes, for one dialect."""

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import monotonic, time

from aiohttp import hdrs, web

from extauthz.core.decision import Decision
from extauthz.core.request import CheckRequest
from extauthz.service.check import CheckService
from extauthz.service.health import Health
from extauthz.transports.http.dialect import Answer, Dialect, ReceivedHeaders, in_lines

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_LAST = "Connection: close\r\n"


@lru_cache(maxsize=4)
def _date(now: int) -> str:
    """RFC 9110 §6.6.1; the same for all answers of a second."""
    return f"Date: {formatdate(now, usegmt=True)}\r\n"


class CheckHandler:
    """Bytes to CheckRequest, Decision to bytes, for one dialect."""

    def __init__(self, service: CheckService, dialect: Dialect, *, deadline: float, health: Health) -> None:
        """`deadline` is the seconds that one check may take. While `health` drains, answers end their connection."""
        self._service = service
        self._dialect = dialect
        self._deadline = deadline
        self._health = health

    @property
    def draining(self) -> bool:
        """Whether answers end their connections."""
        return self._health.draining

    async def decide(self, method: str, target: str, headers: ReceivedHeaders) -> Decision:
        """The decision on any request: every path and method is a check. The clock is read once, here."""
        started = monotonic()
        question = self._dialect.read(method, target, headers)
        if question is None:
            return self._service.refuse_proxy_request(self._dialect.name, started)
        patience = self._deadline
        if question.time_left is not None:
            patience = min(patience, question.time_left)
        return await self._service.check(
            CheckRequest(
                dialect=self._dialect.name,
                method=question.method,
                path=question.path,
                host=question.host,
                authorization=question.authorization,
                request_id=question.request_id,
                client_address=question.client_address,
                now=time(),
                started=started,
                deadline=started + patience,
            )
        )

    def wire(self, decision: Decision, method: str, *, last: bool) -> bytes:
        """The whole answer to a request of `method`. `last`: its connection ends with it."""
        answer = self._dialect.render(decision)
        raw = (
            f"{_STATUS_LINES[answer.status]}{answer.fixed.text}{in_lines(answer.varying)}"
            f"Content-Length: {len(answer.body)}\r\n{_date(int(time()))}{_LAST if last else ''}\r\n"
        ).encode("latin-1")
        return raw if method == hdrs.METH_HEAD else raw + answer.body

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The same for a request of aiohttp's."""
        decision = await self.decide(request.method, request.raw_path, request.headers)
        response = _response(self._dialect.render(decision))
        if self._health.draining or _announces_more(request):
            response.force_close()
        return response

    def refuse(self) -> web.Response:
        """The answer to bytes that are no HTTP request: nothing of them is echoed, and the connection ends."""
        decision = self._service.refuse_proxy_request(self._dialect.name, monotonic())
        answer = self._dialect.render(decision)
        response = _response(Answer(answer.status, [pair for pair in answer.headers if pair[0] != "content-type"]))
        response.force_close()
        return response


def _response(answer: Answer) -> web.Response:
    # Left to itself, aiohttp forgets the length of an empty answer to HEAD.
    length = (hdrs.CONTENT_LENGTH, str(len(answer.body)))
    return web.Response(status=answer.status, headers=[*answer.headers, length], body=answer.body)


def _announces_more(request: web.BaseRequest) -> bool:
    """Whether bytes may follow that are no request of their own: a body, or another protocol."""
    received = request.headers
    return (
        received.get(hdrs.CONTENT_LENGTH, "0") != "0"
        or hdrs.TRANSFER_ENCODING in received
        or hdrs.UPGRADE in received
        or request.method == "CONNECT"
    )
