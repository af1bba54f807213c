"""Bytes that no proxy would send: always a decision of the contract, at once, and without an echo."""

import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.servers.raw_http import ask, wire
from tests.servers.serving import LISTENERS, Serving, check_form, question

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("silence")]

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
LINE = st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\r\n\0"))
VISIBLE = st.binary(max_size=60).map(lambda raw: bytes(33 + byte % 223 for byte in raw))
TOKEN = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~", min_size=1, max_size=20
)

BAD_HTTP = [
    b"SESAME\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\nHost sesame\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\nHost : sesame\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\n Host: sesame\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\nAuthorization: Bearer \x00sesame\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\nAuthorization: Bearer sesame\x7f\x01\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\nContent-Length: sesame\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /sesame HTTP/1.1\r\nTransfer-Encoding: sesame\r\n\r\n",
    b"GET /sesame sesame HTTP/1.1\r\n\r\n",
    b"GET /sesame HTTP/sesame\r\n\r\n",
    b"G\xc3\x89T /sesame HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 sesame\r\n\r\n",
    b"*1\r\n$4\r\nPING\r\n\r\n",
]


@pytest.mark.parametrize("listener", LISTENERS)
async def test_bytes_that_are_not_http_are_refused_without_an_echo(
    service: Serving, listener: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Such bytes get the refusal of the contract, empty, and the end of the connection; none of them is repeated."""
    for bad in BAD_HTTP:
        before = service.value("extauthz_decisions_total", dialect=listener, decision="bad_proxy_request")
        async with wire(service.ports[listener]) as connection:
            answer = await connection.ask(bad)
            check_form(answer, listener)
            assert (answer.status, answer.decision, answer.body) == (403, "bad_proxy_request", b""), bad
            assert answer["x-extauthz-code"] == "bad_proxy_request", bad
            assert b"sesame" not in repr(answer).encode(), bad
            assert await connection.ended() == b"", bad
        after = service.value("extauthz_decisions_total", dialect=listener, decision="bad_proxy_request")
        assert after == before + 1, bad
    out, err = capfd.readouterr()
    assert "sesame" not in (out + err + caplog.text).lower()


@quick
@given(credential=st.one_of(LINE, st.builds(bytes.__add__, st.just(b"Bearer "), LINE)))
@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_credential_of_any_bytes_gets_a_decision(service: Serving, listener: str, credential: bytes) -> None:
    """Whatever stands in `Authorization`, the answer is a refusal of the contract, and does not repeat it."""
    more = b"Authorization: " + credential + b"\r\n"
    answer = await ask(service.ports[listener], question(listener, more=more))
    check_form(answer, listener)
    expected = {"no_credentials", "malformed_credentials", "invalid_credentials", "bad_proxy_request"}
    assert answer.decision in expected
    secret = credential.removeprefix(b"Bearer ").strip()
    assert len(secret) < 8 or secret not in answer.body


@quick
@given(path=st.one_of(LINE, VISIBLE, st.builds(bytes.__add__, st.just(b"/"), VISIBLE)))
@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_path_of_any_bytes_gets_a_decision(service: Serving, listener: str, key: str, path: bytes) -> None:
    """Any bytes in the place of the path are allowed as they are, ambiguous, or a bad request."""
    answer = await ask(service.ports[listener], question(listener, path, key=key))
    check_form(answer, listener)
    assert answer.decision in {"allow", "path_ambiguous", "bad_proxy_request"}
    if answer.decision == "allow":
        assert path.partition(b"?")[0].isascii()


@quick
@given(method=TOKEN)
@pytest.mark.parametrize("listener", LISTENERS)
async def test_any_method_gets_a_decision(service: Serving, listener: str, key: str, method: str) -> None:
    """A method that is unknown counts as a write; a malformed one is a bad request."""
    async with wire(service.ports[listener]) as connection:
        connection.send(question(listener, key=key, method=method))
        answer = await connection.answer(to_head=listener == "envoy" and method == "HEAD")
    assert answer.decision in {"allow", "bad_proxy_request"}
    if answer.decision == "allow":
        assert answer["x-permissions"] == ("api:read" if method in {"GET", "HEAD", "OPTIONS"} else "api:write")


@quick
@given(
    noise=st.binary(min_size=1, max_size=200).filter(lambda noise: b"HTTP/" not in noise),
    ending=st.sampled_from([b"\r\n\r\n", b"\n\n", b""]),
)
@pytest.mark.parametrize("listener", LISTENERS)
async def test_noise_gets_a_decision_or_nothing(service: Serving, listener: str, noise: bytes, ending: bytes) -> None:
    """Bytes without any form are refused, or are the beginning of a request that never ends and gets no answer."""
    async with wire(service.ports[listener]) as connection:
        connection.send(noise + ending)
        connection.half_close()
        said = await connection.ended()
    assert said == b"" or said.startswith((b"HTTP/1.0 403 ", b"HTTP/1.1 403 ")), said
    assert b"x-extauthz-decision: bad_proxy_request" in said.lower() or not said


@quick
@given(
    cuts=st.lists(st.integers(1, 400), max_size=5),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
)
@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_damaged_request_is_never_a_5xx(
    service: Serving, listener: str, key: str, cuts: list[int], flips: list[tuple[int, int]]
) -> None:
    """A valid request with some bytes changed, in pieces of any size: a decision or an end, never an internal error."""
    data = bytearray(question(listener, "/a/b?c=d", key=key, method="POST"))
    for place, byte in flips:
        data[place % len(data)] = byte
    async with wire(service.ports[listener]) as connection:
        begin = 0
        for cut in [*sorted(cuts), len(data)]:
            connection.send(bytes(data[begin:cut]))
            begin = max(begin, cut)
        connection.half_close()
        said = await connection.ended()
    assert not said or 200 <= int(said.split(b" ", 2)[1]) < 500
    assert not said or b"x-extauthz-decision: " in said.lower()
    assert key.encode() not in said


BUG = """
import sys
import structlog
from extauthz.telemetry import logs

logs.configure(form=sys.argv[1], level="info")
credential = sys.stdin.read()
try:
    len(0)
except TypeError as error:
    structlog.get_logger().error("unhandled_exception", exc_info=error)
"""


@pytest.mark.parametrize("form", ["json", "console"])
async def test_a_traceback_shows_no_credential(form: str, key: str) -> None:
    """The traceback of a bug says where it happened, and shows no variable: a credential may be one."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BUG, form), stdin=PIPE, stdout=PIPE, stderr=PIPE, env={"COLUMNS": "1000"}
    )
    out, err = await process.communicate(key.encode())
    assert out == b""
    assert b"TypeError" in err
    assert key.encode() not in err
