"""Generated events on a connection: requests in pieces and pipelined, and changes in between.

The same number gives the same story.
"""

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from extauthz.core.failure import OnRedisDown
from extauthz.core.routes import Route
from tests.servers.serving import LISTENERS, question
from tests.unit.service.fakes import KEY_FORMAT, ROUTES, SECRET
from tests.unit.transports.generated_heads import heads_of
from tests.unit.transports.head_pieces import TELLING
from tests.unit.transports.plain_readings import OTHER_REQUESTS

PATH = "/api/customers/7"
GATED = "/api/vault/1"  # PostgreSQL is asked each time
_PATHS = (
    *(PATH, PATH, PATH, PATH, "/api/customers/8?a=b", "/api/customers/8?c=//d", "/api/beta/1", "/api/reports/1", GATED),
    *("/public/x", "/public/search", "/public/search?a", "/api//7", "/elsewhere", "/api/customers/%zz", "/", "?a"),
)  # fmt: skip
_HOSTS = (
    *6 * (b"api.example.com",),
    b"admin.example.com",
    b"ADMIN.example.com:80",
    b"admin.example.com?a",
    b"admin..a",
)
_KEYS = (*8 * (SECRET,), None, "a b", "sk-0123456789abcdef0123", KEY_FORMAT.issue(bytes(20)))
_METHODS = (*10 * ("GET",), "POST", "OPTIONS", "HEAD", "get", "GET?a", "CONNECT")
_MORE = (
    *(b"", b"", b"", b"X-Request-Id: a\r\n", b"X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n", b"content-length: 0\r\n"),
    *(b"X-Real-IP: 192.0.2.3\r\nUser-Agent: a\r\n", b"X-Envoy-Expected-Rq-Timeout-Ms: 9000\r\n", b"X: \r\n"),
    *(b"X-Request-Id: a\r\nx-request-id: b\r\n", b"Host: b\r\n", b"Authorization: Bearer c\r\n", b"X-Odd: \xe4\r\n"),
    *(b"Expect: 100-continue\r\n", b"X-Original-Host: api.example.com?a\r\n", b"X-Original-URL: http://a/b\r\n"),
)  # fmt: skip
_OPTIONS: tuple[dict[str, Any], ...] = (
    *4 * ({},),
    {"charge_once": True},
    {"on_redis_down": OnRedisDown.CLOSED},
    {"cache_keys": False},
    {"routes": (*ROUTES, Route("/**", host="admin.example.com", public=True))},
)
CHANGES = (
    *("suspended", "active", "all permissions", "few permissions", "no limits", "daily quota", "burst of two"),
    *("burst of two", "no key", "later", "later", "much later"),
)  # fmt: skip


class Step(NamedTuple):
    """An action of the player, with bytes to send, a number of turns of the loop, or a change."""

    kind: str
    data: bytes = b""
    number: int = 0
    change: str = ""
    told: bool = True


class Story(NamedTuple):
    """What happens to the connections of a listener, of a service with such options."""

    options: dict[str, Any]
    listener: str
    steps: list[Step]


def story_of(number: int) -> Story:
    """A story of a few dozen steps at most."""
    random = Random(number)
    listener = random.choice(LISTENERS)
    return Story(random.choice(_OPTIONS), listener, list(_steps(random, listener)))


def _steps(random: Random, listener: str) -> Iterator[Step]:
    drains, calm = random.random() < 0.2, random.random()
    if random.random() < 0.4:
        yield Step("change", change="burst of two")
    for _ in range(random.choice((2, 5, 10, 20))):
        yield Step("other connection" if random.random() < 0.1 else "connection")
        if random.random() < calm:
            yield Step("send", _usual(random, listener))
            yield Step("settle")
        else:
            yield from _busy(random, listener, drains=drains)
        yield from _changes(random)


def _busy(random: Random, listener: str, *, drains: bool) -> Iterator[Step]:
    """Requests behind each other and in pieces, perhaps behind a check that waits, or with a client that reads late."""
    asked = b"".join(_request(random, listener) for _ in range(random.choice((1, 1, 1, 2, 3, 5, 30))))
    if random.random() < 0.15:
        asked = question(listener, GATED, key=SECRET) + asked
        yield Step("keep keys waiting")
    elif random.random() < 0.3:
        yield Step("keep limits waiting")
        yield Step("send", _usual(random, listener))
    if random.random() < 0.1:
        yield Step("pause writing")
    for piece in _pieces(random, asked):
        yield Step("send", piece)
        yield from _between(random)
    yield Step("settle")
    yield Step("resume writing")
    yield Step("settle")  # while nothing is written, one way may be further than the other
    if random.random() < 0.1:
        yield Step("leave")
    if drains and random.random() < 0.6:
        yield Step("drain")
    yield from _changes(random)
    yield Step("let go")
    yield Step("settle")


def _usual(random: Random, listener: str) -> bytes:
    """A request that is plain if it can be."""
    asked = question(listener, random.choice(_PATHS), key=random.choice(_KEYS), more=random.choice(_MORE[:6]))
    host = random.choice(_HOSTS)
    if random.random() < 0.5:
        asked = asked.replace(b"\r\n\r\n", b"\r\nX-Original-Host: %b\r\nX-Forwarded-Host: %b\r\n\r\n" % (host, host))
    return asked.replace(b"GET", random.choice(_METHODS[:12]).encode()).replace(b"api.example.com", host)


def _request(random: Random, listener: str) -> bytes:
    kind = random.random()
    if kind < 0.3:
        return _usual(random, listener)
    if kind < 0.34:
        return random.choice(OTHER_REQUESTS)
    if kind < 0.38:
        return random.choice(list(heads_of(random.randrange(1000))))
    more = random.choice(TELLING) + b"\r\n" if kind < 0.45 else random.choice(_MORE)
    method = random.choice(_METHODS)
    asked = question(listener, random.choice(_PATHS), key=random.choice(_KEYS), method=method, more=more)
    return asked + b"hello" if b"Content-Length: 5" in more and random.random() < 0.8 else asked


def _pieces(random: Random, data: bytes) -> Iterator[bytes]:
    """The data in pieces: often one, or one for each request, or cut anywhere."""
    match random.randrange(6):
        case 0 | 1 | 2:
            yield data
        case 3:
            for each in data.split(b"\r\n\r\n")[:-1]:
                yield each + b"\r\n\r\n"
            yield data.rpartition(b"\r\n\r\n")[2]
        case _:
            cuts = sorted(random.randrange(len(data)) for _ in range(random.choice((1, 2, 4, 8))))
            for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                yield data[begin:end]


def _between(random: Random) -> Iterator[Step]:
    match random.randrange(4):
        case 0:
            yield Step("settle")
        case 1:
            yield Step("turns", number=random.choice((1, 1, 2, 3, 5, 8)))


def _changes(random: Random) -> Iterator[Step]:
    """What happens while nothing is under way but what is kept waiting."""
    if random.random() < 0.1:
        yield Step("change", change=random.choice(CHANGES), told=random.random() < 0.7)
    if random.random() < 0.01:
        yield Step("lose", change=random.choice(("postgresql", "redis")))
