"""Plain requests, as they are recognised from their bytes, against the parser of the connection: aiohttp's."""

import logging
from typing import Any

import pytest
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from extauthz.transports.http.plain import PLAIN_BYTES_MAX, recognise
from tests.generated import in_time, numbers
from tests.unit.service.fakes import open_house
from tests.unit.transports.check_listener import REFUSED, Door
from tests.unit.transports.generated_heads import heads_of
from tests.unit.transports.plain_readings import (
    OPTIONS,
    OTHER_REQUESTS,
    PLAIN,
    Parsers,
    own_reading,
    parsed_reading,
)
from tests.unit.transports.proxy_heads import HAPROXY, PROXY_HEADS

SUITE_NUMBERS = 800
PROGRESS_NUMBERS = 10_000  # after which the log says how far it is

_log = logging.getLogger(__name__)


def check(data: bytes, parsers: Parsers) -> bool:
    """Whether it is plain, and then fails where a parser reads anything else, a new one or a used one."""
    own = own_reading(data)
    if own is None:
        return False
    new = parsers.new()
    assert own == parsed_reading(new, data), data
    assert parsed_reading(new, PLAIN) == own_reading(PLAIN), data  # nothing of it was left in the parser
    assert own == parsed_reading(parsers.used(), data), data
    return True


@pytest.fixture
def parsers() -> Parsers:
    """As the service has them."""
    return Parsers(HttpRequestParser)


@pytest.mark.fuzz
@in_time()
def test_plain_requests_are_read_alike(parsers: Parsers) -> None:
    """A plain request is one request for aiohttp's parsers, that in C and that without, and reads the same."""
    in_python = Parsers(HttpRequestParserPy)
    tried = plain = 0
    for number in numbers(SUITE_NUMBERS):
        for data in heads_of(number):
            tried += 1
            plain += check(data, parsers)
            if number % 8 == 0:
                check(data, in_python)
        if number % PROGRESS_NUMBERS == 0:
            _log.info("number %d: %d heads, %d of them plain, no difference", number, tried, plain)
    _log.info("%d heads, %d of them plain, no difference", tried, plain)
    assert tried / 3 < plain < tried * 2 / 3  # else the heads say little


def test_every_change_of_a_byte(parsers: Parsers) -> None:
    """One byte is changed, put in or taken out, each of all, everywhere: what is still plain is read alike."""
    plain = 0
    for at in range(len(PLAIN) + 1):
        before, after = PLAIN[:at], PLAIN[at:]
        changed = [before + after[1:]]
        for each in range(256):
            changed += [before + bytes([each]) + after, before + bytes([each]) + after[1:]]
        plain += sum(check(data, parsers) for data in changed)
    assert plain > 1000


@pytest.mark.parametrize("head", [PLAIN, *PROXY_HEADS.values()], ids=["short", *PROXY_HEADS])
def test_a_part_of_a_request_is_not_plain(head: bytes) -> None:
    """Nor is one with anything before or behind it."""
    assert recognise(head)
    for at in range(len(head)):
        assert recognise(head[:at]) is None
        assert recognise(head[at:] + head[:at]) is None or at == 0
    for other in (head, *(bytes([each]) for each in range(256)), b"\r\n", *OTHER_REQUESTS):
        assert recognise(head + other) is None
        assert recognise(other + head) is None


@pytest.mark.parametrize("proxy", PROXY_HEADS)
def test_what_proxies_send_is_plain(proxy: str, parsers: Parsers) -> None:
    """A check of every proxy that keeps its connection open."""
    assert check(PROXY_HEADS[proxy], parsers)


def test_what_ends_its_connection_is_not_plain() -> None:
    """A check of HAProxy's is left to aiohttp, which ends the connection with its answer."""
    assert recognise(HAPROXY) is None
    assert recognise(HAPROXY.replace(b"connection: close\r\n", b""))


def test_as_many_headers_and_bytes_as_a_plain_request_may_have(parsers: Parsers) -> None:
    """The parser takes them too, and one more of either is left to it."""
    others = b"x: a\r\n" * 300
    most = b"GET / HTTP/1.1\r\n" + others + b"Host: a\r\n" + others + b"Authorization: b\r\n" + others + b"\r\n"
    assert check(most, parsers)
    assert not check(most.replace(b"x: a\r\n", b"x: a\r\nx: a\r\n", 1), parsers)
    longest = PLAIN.replace(b"e", b"e" * (PLAIN_BYTES_MAX - len(PLAIN) + 1))
    assert len(longest) == PLAIN_BYTES_MAX
    assert check(longest, parsers)
    assert not check(longest.replace(b"e", b"ee", 1), parsers)


async def test_these_are_the_parsers_of_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same kind and with the same options, so that what holds here holds there."""
    assert HttpRequestParser is not HttpRequestParserPy
    made: list[dict[str, object]] = []

    def record(*arguments: Any, **options: Any) -> HttpRequestParser:
        made.append(options)
        return HttpRequestParser(*arguments, **options)

    monkeypatch.setattr("aiohttp.web_protocol.HttpRequestParser", record)
    async with open_house() as fake_service, Door(fake_service, fast_path=True).open() as door, door.client() as client:
        await client.ask(REFUSED)
    assert made
    assert made[0].items() >= OPTIONS.items()
