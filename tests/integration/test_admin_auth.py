"""Authentication of the admin API: a token at once, anything else with a delayed 401, and web pages nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from extauthz.admin import auth
from extauthz.admin.api import AdminApi
from extauthz.admin.auth import BearerAuth
from extauthz.admin.services import Services
from tests.servers.admin_api import TOKENS, Caller, bearer, call, check_form, code, serving, value
from tests.servers.raw_http import ask, wire

DOCUMENT = "/v1/openapi.json"
HELD = 400  # a process may open few files, and both ends of each connection are in this one
WRONG = b"no token of anybody, whatever its length"


class HeldAnswers:
    """An admin API without services whose delayed answers wait for `release`."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.arrived = asyncio.Semaphore(0)
        self.api = AdminApi(None, TOKENS, pause=self._pause)
        self.port = 0

    async def _pause(self) -> None:
        self.arrived.release()
        await self.release.wait()

    async def held(self, count: int) -> None:
        """Waits until so many more answers are held back."""
        async with asyncio.timeout(5):
            for _ in range(count):
                await self.arrived.acquire()


@pytest.fixture
async def held_answers() -> AsyncIterator[HeldAnswers]:
    held_answers = HeldAnswers()
    async with serving(held_answers.api) as held_answers.port:
        yield held_answers
        held_answers.release.set()


def get(more: bytes = b"") -> bytes:
    return f"GET {DOCUMENT} HTTP/1.1\r\nHost: here\r\n".encode() + more + b"\r\n"


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_is_accepted(held_answers: HeldAnswers, name: str) -> None:
    """Each of the named tokens is accepted, whatever the case of its scheme and the blanks behind it."""
    assert (await ask(held_answers.port, get(bearer(TOKENS[name])))).status == 200
    assert (await ask(held_answers.port, get(bearer(TOKENS[name]).replace(b"Bearer", b"bEARER")))).status == 200
    assert (await ask(held_answers.port, get(bearer(b"  " + TOKENS[name])))).status == 200


async def test_no_credential_is_answered_at_once(held_answers: HeldAnswers) -> None:
    """Without Authorization the answer is 401 with a challenge, without a delay."""
    answer = check_form(await ask(held_answers.port, get()))
    assert (answer.status, code(answer)) == (401, "no_credentials")
    assert answer["www-authenticate"] == 'Bearer realm="extauthz admin"'


@pytest.mark.parametrize(
    "lines",
    [
        bearer(WRONG),
        bearer(TOKENS["ops"][:-1]),
        bearer(TOKENS["ops"] + b"x"),
        bearer(b""),
        bearer(b"\t" + TOKENS["ops"]),
        bearer("the tökén of ops, 32 bytes or more".encode()),
        bearer(b"\xff" * 40),
        b"Authorization: Basic " + TOKENS["ops"] + b"\r\n",
        b"Authorization: " + TOKENS["ops"] + b"\r\n",
        b"Authorization:\r\n",
        bearer() + bearer(),
        bearer() + bearer(TOKENS["ci"]),
        bearer(WRONG) + bearer(),
    ],
)
async def test_anything_but_a_token_is_refused(held_answers: HeldAnswers, lines: bytes) -> None:
    """A wrong token, another scheme, bytes above ASCII, or two credentials: 401 that repeats nothing of them."""
    held_answers.release.set()
    answer = check_form(await ask(held_answers.port, get(lines)))
    assert (answer.status, code(answer)) == (401, "invalid_credentials")
    assert answer["www-authenticate"] == 'Bearer realm="extauthz admin", error="invalid_token"'
    assert b"32 bytes" not in answer.body


async def test_a_right_token_never_waits_for_wrong_ones(held_answers: HeldAnswers) -> None:
    """While 50 wrong tokens wait for their answer, a right one is answered."""
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(wire(held_answers.port)) for _ in range(50)]
        for connection in wires:
            connection.send(get(bearer(WRONG)))
        await held_answers.held(50)
        assert (await ask(held_answers.port, get(bearer()))).status == 200
        assert held_answers.api.held == 50
        held_answers.release.set()
        assert {(await connection.answer()).status for connection in wires} == {401}
    assert held_answers.api.held == 0


async def test_the_number_of_delayed_answers_is_bounded(
    held_answers: HeldAnswers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong token above the bound gets no answer, and its connection ends; a right one is accepted at once."""
    monkeypatch.setattr(auth, "HELD_MAX", 50)
    async with AsyncExitStack() as stack:
        for _ in range(50):
            connection = await stack.enter_async_context(wire(held_answers.port))
            connection.send(get(bearer(WRONG)))
        await held_answers.held(50)
        one_more = await stack.enter_async_context(wire(held_answers.port))
        one_more.send(get(bearer(WRONG)))
        assert await one_more.ended() == b""
        assert (await ask(held_answers.port, get(bearer()))).status == 200
        held_answers.release.set()
    assert caplog.text == ""


async def test_hundreds_of_wrong_tokens_do_not_keep_out_a_right_one(held_answers: HeldAnswers) -> None:
    """Hundreds of connections that come at the same moment are all accepted and answered; so is a right token."""
    async with AsyncExitStack() as stack:
        wires = await asyncio.gather(*(stack.enter_async_context(wire(held_answers.port)) for _ in range(HELD)))
        for connection in wires:
            connection.send(get(bearer(WRONG)))
        await held_answers.held(HELD)
        assert (await ask(held_answers.port, get(bearer()))).status == 200
        held_answers.release.set()
        assert {answer.status for answer in await asyncio.gather(*(each.answer() for each in wires))} == {401}


@pytest.mark.parametrize(
    "line",
    [
        b"Origin: https://evil.example\r\n",
        b"Origin: null\r\n",
        b"Origin:\r\n",
        b"Sec-Fetch-Site: cross-site\r\n",
        b"Sec-Fetch-Site: same-site\r\n",
        b"Sec-Fetch-Site: \r\n",
        b"Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_a_page_of_another_site_gets_nothing(held_answers: HeldAnswers, method: str, line: bytes) -> None:
    """Another site's Origin or Sec-Fetch-Site is refused, with or without a token, and no CORS header is ever sent."""
    for credential in (b"", bearer()):
        asked = f"{method} {DOCUMENT} HTTP/1.1\r\nHost: here\r\n".encode() + credential + line + b"\r\n"
        answer = check_form(await ask(held_answers.port, asked))
        assert (answer.status, code(answer)) == (403, "cross_site_request")


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_a_typed_address_is_not_another_site(held_answers: HeldAnswers, site: str) -> None:
    """The headers of a browser for an address that a user typed do not keep a token out."""
    assert (await ask(held_answers.port, get(bearer() + f"Sec-Fetch-Site: {site}\r\n".encode()))).status == 200


async def test_without_tokens_the_api_is_closed() -> None:
    """With no token set every call is refused and says which setting opens it."""
    async with serving(AdminApi(None, {})) as port:
        for path in (DOCUMENT, "/v1/plans", "/v1/nothing"):
            answer = check_form(await ask(port, call("GET", path)))
            assert (answer.status, code(answer)) == (403, "admin_token_not_set")
            assert "EXTAUTHZ_ADMIN_TOKEN" in value(answer)["detail"]


async def test_with_external_keys_nothing_is_managed(held_answers: HeldAnswers) -> None:
    """With keys in external tables, every endpoint but the description answers that keys are managed there."""
    caller = Caller(held_answers.port)
    for method, path in (("GET", "/v1/plans"), ("POST", "/v1/api-keys"), ("PATCH", "/v1/api-keys/x?y=z")):
        answer = await caller(method, path, {"nonsense": True} if method != "GET" else None)
        assert (answer.status, code(answer)) == (409, "keys_kept_elsewhere")
    assert (await caller("GET", DOCUMENT)).status == 200


async def test_the_rest_of_the_listener_asks_for_no_token(held_answers: HeldAnswers) -> None:
    """Health and metrics stay as open as they were."""
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await ask(held_answers.port, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())).status == 200


@pytest.mark.parametrize(
    "data",
    [
        get(bearer()).replace(b"Host: here", b"Host: here\r\nBad Header: x"),
        get(bearer() + b"X: \x00\r\n"),
        get(b"Authorization : Bearer " + TOKENS["ops"] + b"\r\n"),
        get(b"Authorization: Bearer " + TOKENS["ops"] + b"\x01\r\n"),
        get(b"Authorization: Bearer " + TOKENS["ops"] * 300 + b"\r\n"),
        b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: here\r\n" + bearer() + b"\r\n",
        b"GET /v1/%ff%00/%0d%0a HTTP/1.1\r\nHost: here\r\n" + bearer() + b"\r\n",
        b"GET //v1/plans HTTP/1.1\r\nHost: here\r\n" + bearer() + b"\r\n",
        b"GET /v1/plans?a=%ff&b=\xff HTTP/1.1\r\nHost: here\r\n" + bearer() + b"\r\n",
        b"NONSENSE\r\n\r\n",
    ],
)
async def test_no_token_is_ever_repeated(
    held_answers: HeldAnswers, data: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with a request, its token is in no answer and no log, and the fault is never internal."""
    caplog.set_level(logging.DEBUG)
    held_answers.release.set()
    answer = await ask(held_answers.port, data)
    assert 400 <= answer.status < 500
    out, err = capfd.readouterr()
    assert "token of ops" not in caplog.text + out + err + answer.body.decode()
    assert "Traceback" not in caplog.text + out + err


class Broken:
    """Services that raise an unexpected error."""

    places = 1
    highest_cost = 0

    def as_actor(self, actor: str) -> Services:
        raise RuntimeError(f"what only the log should say of {actor}")


async def test_an_unexpected_error_is_logged() -> None:
    """The client gets a 500 without details, and the log the whole error, without the token."""
    with capture_logs() as logs:
        async with serving(AdminApi(Broken(), TOKENS)) as port:
            answer = await Caller(port)("GET", "/v1/plans")
    assert (answer.status, code(answer)) == (500, "internal_error")
    assert b"only the log" not in answer.body
    assert [(entry["event"], str(entry["exc_info"])) for entry in logs] == [
        ("unhandled_exception", "what only the log should say of token:ops")
    ]


def test_authentication_keeps_no_token() -> None:
    """No token is in the repr of the authentication, nor in any of its attributes."""
    gate = BearerAuth(TOKENS)
    assert not any(token.decode() in repr(vars(gate)) for token in TOKENS.values())
