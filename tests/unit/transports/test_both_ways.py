"""A plain request's short way and aiohttp's: the same bytes for every decision in every dialect and for what is odd."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from extauthz.core.failure import OnRedisDown
from extauthz.core.limits import Limits, Rate
from extauthz.core.permissions import FULL_ACCESS
from extauthz.core.reason import Reason
from extauthz.core.routes import Route
from tests.servers.serving import LISTENERS, question
from tests.unit.service.fakes import KEY, KEY_FORMAT, SECRET, TENANT, House, open_house
from tests.unit.transports.check_listener import ALLOWED, LAST, REFUSED, Door, decisions, with_line

PATH = "/api/customers/7"
Prepare = Callable[[House], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a new day are the same twice."""
    monkeypatch.setattr("extauthz.service.limiting.JITTER", 0)


async def as_it_is(house: House) -> None:
    """Nothing is special."""


def limited(limits: Limits) -> Prepare:
    """An organization with such limits, whose key may do everything."""

    async def prepare(house: House) -> None:
        house.store(replace(KEY, permissions=FULL_ACCESS, tenant=replace(TENANT, limits=limits)))

    return prepare


async def suspended(house: House) -> None:
    house.store(replace(KEY, tenant=replace(TENANT, status="suspended")))


async def without_postgresql(house: House) -> None:
    await house.lose(house.postgresql)


async def without_redis(house: House) -> None:
    await house.lose(house.redis)


STORIES: dict[str, tuple[Prepare, str, str | None, str, list[str]]] = {
    "allowed": (as_it_is, PATH, SECRET, "GET", ["allow"]),
    "no limits": (limited(Limits()), PATH, SECRET, "GET", ["allow"]),
    "shadow": (limited(Limits(daily_quota=0)), "/api/beta/1", SECRET, "GET", ["allow"]),
    "public": (as_it_is, "/public/x", None, "GET", ["allow"]),
    "no credentials": (as_it_is, PATH, None, "GET", ["no_credentials"]),
    "malformed": (as_it_is, PATH, "a b", "GET", ["malformed_credentials"]),
    "unknown": (as_it_is, PATH, KEY_FORMAT.issue(bytes(20)), "GET", ["invalid_credentials"]),
    "suspended": (suspended, PATH, SECRET, "GET", ["organization_suspended"]),
    "not permitted": (as_it_is, PATH, SECRET, "POST", ["permission_denied"]),
    "no route": (as_it_is, "/elsewhere", SECRET, "GET", ["route_not_allowed"]),
    "ambiguous": (as_it_is, "/api//7", SECRET, "GET", ["path_ambiguous"]),
    "too dear": (limited(Limits(Rate(1, 1), 5)), "/api/reports/1", SECRET, "GET", ["cost_exceeds_limit"]),
    "too fast": (limited(Limits(Rate(1, 1), 2)), PATH, SECRET, "GET", ["allow", "allow", "rate_limited"]),
    "day": (limited(Limits(daily_quota=1)), PATH, SECRET, "GET", ["allow", "daily_quota_exceeded"]),
    "month": (limited(Limits(monthly_quota=1)), PATH, SECRET, "GET", ["allow", "monthly_quota_exceeded"]),
    "no quota": (limited(Limits(monthly_quota=0)), PATH, SECRET, "GET", ["cost_exceeds_limit"]),
    "address": (as_it_is, "/public/search", None, "GET", ["allow", "allow", "rate_limited"]),
    "no PostgreSQL": (without_postgresql, PATH, SECRET, "GET", ["authentication_unavailable"]),
    "no Redis": (without_redis, PATH, SECRET, "GET", ["allow"]),
    "closed": (without_redis, PATH, SECRET, "GET", ["limits_unavailable"]),
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("listener", LISTENERS)
async def test_both_ways_say_the_same(listener: str, story: str) -> None:
    """Every decision in every dialect: status line, headers and body are the same bytes, to HEAD as well."""
    prepare, path, key, method, expected = STORIES[story]
    on_redis_down = OnRedisDown.CLOSED if story == "closed" else OnRedisDown.OPEN
    said = []
    for short_way in (True, False):
        async with open_house(on_redis_down=on_redis_down) as house, Door(house, short_way=short_way).open() as door:
            await prepare(house)
            asked = question(listener, path, key=key, method=method)
            async with door.client(listener) as client:
                answers = [await client.ask(asked) for _ in expected]
                assert decisions(b"".join(answers)) == expected
                client.send(b"HEAD" + asked.removeprefix(b"GET").removeprefix(b"POST"))
                answers.append(await client.answer(to_head=True))
                answers.append(await client.ask(REFUSED))  # from its own first byte
            assert door.by_aiohttp == (0 if short_way else len(answers))
            said.append((answers, house.watch.decisions))
    assert said[0] == said[1]


def test_every_decision_is_told() -> None:
    """No decision is missing above, but for those of requests that are no question, or whose host is ambiguous."""
    told = {decision for *_, expected in STORIES.values() for decision in expected}
    assert told == set(Reason) - {Reason.BAD_PROXY_REQUEST, Reason.HOST_AMBIGUOUS}


@pytest.mark.parametrize("listener", LISTENERS)
async def test_an_ambiguous_host(listener: str) -> None:
    """Where a route names a host, one that is ambiguous is refused with the same bytes, to HEAD as well."""
    routes = [Route("/**", resource="api"), Route("/**", host="api.example.com", public=True)]
    asked = question(listener, "/x").replace(b"api.example.com", b"api.example.com..")
    said = []
    for short_way in (True, False):
        async with open_house(routes=routes) as house, Door(house, short_way=short_way).open() as door:
            async with door.client(listener) as client:
                answers = [await client.ask(asked)]
                client.send(b"HEAD" + asked.removeprefix(b"GET"))
                answers.append(await client.answer(to_head=True))
            assert decisions(b"".join(answers)) == 2 * ["host_ambiguous"]
            assert door.by_aiohttp == (0 if short_way else 2)
            said.append((answers, house.watch.decisions))
    assert said[0] == said[1]


@pytest.mark.parametrize("listener", LISTENERS)
async def test_what_is_no_question(listener: str) -> None:
    """A request in the words of no dialect is refused with the same bytes, the short way."""
    said = []
    for short_way in (True, False):
        async with open_house() as house, Door(house, short_way=short_way).open() as door:
            async with door.client(listener) as client:
                said.append([await client.ask(question("envoy", "/elsewhere")) for _ in range(2)])
            assert door.by_aiohttp == (0 if short_way else 2)
    assert said[0] == said[1]


UNUSUAL = [
    with_line(b"", version=b"1.0"),
    with_line(b"Connection: keep-alive", version=b"1.0"),
    with_line(b"", version=b"1.2"),
    with_line(b"Connection: close"),
    with_line(b"Connection: x, CLOSE"),
    with_line(b"Expect: 100-continue"),
    with_line(b"Expect: 100-continue\r\nContent-Length: 5", method=b"PUT"),
    with_line(b"Connection: Upgrade\r\nUpgrade: websocket"),
    with_line(b"Upgrade: h2c"),
    with_line(b"Upgrade:"),
    with_line(b"Content-Length: 5", method=b"POST"),
    with_line(b"Content-Length: 00"),
    with_line(b"Transfer-Encoding: chunked", method=b"POST"),
    with_line(b"Transfer-Encoding: identity"),
    with_line(b"Transfer-Encoding:"),
    ALLOWED.replace(b"GET /api/customers/7", b"CONNECT api.example.com:443"),
    ALLOWED.replace(b"Host: api.example.com\r\n", b""),
    ALLOWED.replace(b"HTTP/1.1", b"HTTP/9"),
    b"\r\nSESAME\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
]


@pytest.mark.parametrize("asked", UNUSUAL)
async def test_what_is_unusual_goes_the_way_of_aiohttp(asked: bytes) -> None:
    """With the same bytes for an answer and the same end; what is behind it is judged on both ways or on none."""
    said = []
    for short_way in (True, False):
        async with open_house() as house, Door(house, short_way=short_way).open() as door, door.client() as client:
            first = await client.ask(asked)
            assert door.by_aiohttp == (0 if decisions(first) == ["bad_proxy_request"] else 1)
            client.send(REFUSED + LAST)
            said.append((first, await client.rest(), house.watch.decisions))
    assert said[0] == said[1]


@pytest.mark.parametrize("line", [b"Content-Length: 0", b"Content-Encoding: gzip", b"Connection: keep-alive", b"X: "])
async def test_what_is_usual_goes_the_short_way(line: bytes) -> None:
    """Also with headers that only seem to say more."""
    said = []
    for short_way in (True, False):
        async with open_house() as house, Door(house, short_way=short_way).open() as door:
            async with door.client() as client:
                said.append([await client.ask(with_line(line)) for _ in range(3)])
            assert door.by_aiohttp == (0 if short_way else 3)
    assert said[0] == said[1]
