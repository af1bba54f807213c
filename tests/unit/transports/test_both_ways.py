"""The fast path and aiohttp's give the same bytes for every decision in every dialect and for unusual requests."""

from collections.abc import Sequence

import pytest

from extauthz.core.reason import Reason
from extauthz.core.routes import Route
from extauthz.transports.http.dialect import Wording
from extauthz.transports.http.dialects.nginx import NginxQuestion
from tests.generated import is_deep
from tests.servers.serving import LISTENERS, question
from tests.unit.service.fakes import FakeService, open_house
from tests.unit.transports.check_listener import ALLOWED, LAST, REFUSED, Door, decisions, with_line
from tests.unit.transports.stories import PATH, PREFIX, PROXIES, STORIES, Story, asked, listener_of

WORDINGS = (Wording(), Wording(False, ("ietf",)), Wording(True, ("x",)), Wording(False, ()))


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jitter is the same twice."""
    monkeypatch.setattr("extauthz.service.check.rate_limit.JITTER", 0)


def opened(fake_service: FakeService, proxy: str, *, fast_path: bool, wording: Wording = WORDINGS[0]) -> Door:
    """A listener that a proxy is to ask."""
    by: NginxQuestion = "url" if proxy == "nginx by url" else "uri"
    prefix = PREFIX if proxy == "envoy with a prefix" else ""
    return Door(fake_service, fast_path=fast_path, question=by, path_prefix=prefix, wording=wording)


async def told(story: Story, proxy: str, wording: Wording, *, fast_path: bool) -> tuple[object, ...]:
    """The answers of a story, their counts, and what is left of limits."""
    async with open_house(**story.fake_service) as fake_service:  # type: ignore[arg-type]
        await story.prepare(fake_service)
        door = opened(fake_service, proxy, fast_path=fast_path, wording=wording)
        async with door.open(), door.client(listener_of(proxy)) as client:
            answers = [await client.ask(story.asked(proxy)) for _ in story.expected]
            assert decisions(b"".join(answers)) == story.expected
            assert door.by_aiohttp == (story.slow if fast_path else len(answers))
            client.send(story.asked(proxy, head=True))
            answers.append(await client.answer(to_head=True))
            answers.append(await client.ask(asked(proxy, PATH, key=None)))  # from its own first byte
            assert door.by_aiohttp == (story.slow + 1 if fast_path else len(answers))
        watch = fake_service.watch
        return answers, watch.reasons, watch.limited, watch.in_shadow, fake_service.limits.states


@pytest.mark.fuzz
@pytest.mark.parametrize("proxy", PROXIES)
async def test_both_paths_give_the_same_answers(proxy: str) -> None:
    """Every decision in every dialect and wording: the same bytes, at first, again, and to HEAD; the same charges."""
    for turn, (name, story) in enumerate(STORIES.items(), PROXIES.index(proxy)):
        # Each wording with a part of the stories in each dialect.
        for wording in WORDINGS if is_deep() else [WORDINGS[turn % len(WORDINGS)]]:
            fast, full = [await told(story, proxy, wording, fast_path=way) for way in (True, False)]
            assert fast == full, (name, wording)


def test_every_decision_is_covered() -> None:
    """Every decision occurs above, except those of malformed questions and of ambiguous hosts."""
    told = {decision for story in STORIES.values() for decision in story.expected}
    assert told == set(Reason) - {Reason.BAD_PROXY_REQUEST, Reason.HOST_AMBIGUOUS}


async def said(door: Door, listener: str, requests: Sequence[bytes]) -> list[bytes]:
    """The answers to requests on one connection."""
    async with door.client(listener) as client:
        return [await client.ask(each) for each in requests]


async def test_listeners_share_no_answers() -> None:
    """A key that is used at every listener is answered in the dialect of each, whichever was asked first."""
    for order in (LISTENERS, LISTENERS[::-1]):
        both = []
        for fast_path in (True, False):
            async with open_house() as fake_service, Door(fake_service, fast_path=fast_path).open() as door:
                answers = []
                for path in 3 * (PATH, "/api/reports/1", "/elsewhere"):
                    for listener in order:
                        answers += await said(door, listener, [asked(listener, path), asked(listener, path, key=None)])
                assert door.by_aiohttp == (1 if fast_path else len(answers))
                both.append(answers)
        assert both[0] == both[1]


HOSTS = ["api.example.com", "admin.example.org", "api.example.com?x", "admin.example.org?x", "admin.example.org.:80"]


@pytest.mark.parametrize("listener", LISTENERS)
async def test_hosts_are_judged_separately(listener: str) -> None:
    """Where a route names a host, each host is judged for itself, in any order; an ambiguous one is denied."""
    routes = [Route("/**", resource="customer"), Route("/**", host="admin.example.org", public=True)]
    name = {"envoy": "Host", "nginx": "X-Original-Host", "forward": "X-Forwarded-Host"}[listener]
    plain = question(listener, "/x").replace(
        b"Host: api.example.com\r\n", b"" if listener == "envoy" else b"Host: x\r\n"
    )
    requests = {each: plain.replace(b"\r\n", f"\r\n{name}: {each}\r\n".encode(), 1) for each in [*HOSTS, "a..b"]}
    for order in (list(requests), list(requests)[::-1]):
        both = []
        for fast_path in (True, False):
            async with (
                open_house(routes=routes) as fake_service,
                Door(fake_service, fast_path=fast_path).open() as door,
            ):
                both.append(await said(door, listener, 2 * [requests[each] for each in order]))
                assert door.by_aiohttp == (0 if fast_path else 2 * len(order))
        assert both[0] == both[1]
        by_host = dict(zip(order, decisions(b"".join(both[0])), strict=False))
        assert by_host == {
            "api.example.com": "no_credentials",
            "admin.example.org": "allow",
            "api.example.com?x": "host_ambiguous",
            "admin.example.org?x": "host_ambiguous",
            "admin.example.org.:80": "allow",
            "a..b": "host_ambiguous",
        }


@pytest.mark.parametrize("listener", ["nginx", "forward"])
async def test_method_with_a_query_is_invalid(listener: str) -> None:
    """It is not a method's name, also where that method was used before."""
    plain = question(listener, PATH)
    for fast_path in (True, False):
        async with open_house() as fake_service, Door(fake_service, fast_path=fast_path).open() as door:
            answers = await said(door, listener, [plain, plain.replace(b"Method: GET", b"Method: GET?x"), plain])
        assert decisions(b"".join(answers)) == ["no_credentials", "bad_proxy_request", "no_credentials"]


@pytest.mark.parametrize("proxy", PROXIES)
async def test_queries_lead_to_one_place(proxy: str) -> None:
    """A query changes nothing but the request."""
    paths = [PATH, PATH + "?", PATH + "?a=b", PATH + "?a//b", PATH + "?/../x?", "/public/x?y", "/a//b?c", "?", "/?x"]
    both = []
    for fast_path in (True, False):
        async with open_house() as fake_service, opened(fake_service, proxy, fast_path=fast_path).open() as door:
            both.append(await said(door, listener_of(proxy), 2 * [asked(proxy, path) for path in paths[:-2]]))
            assert door.by_aiohttp == (1 if fast_path else len(both[0]))
    assert both[0] == both[1]


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_drain_is_announced_on_both_paths(listener: str) -> None:
    """From then on every answer ends its connection, also where the key was used before."""
    both = []
    for fast_path in (True, False):
        async with open_house() as fake_service, Door(fake_service, fast_path=fast_path).open() as door:
            await door.warm(listener)
            async with door.client(listener) as client:
                await client.ask(asked(listener, PATH))
                door.health.draining = True
                client.send(2 * asked(listener, PATH))
                both.append(await client.rest())
    assert decisions(both[0]) == ["allow"]
    assert both[0] == both[1]


@pytest.mark.parametrize("listener", LISTENERS)
async def test_malformed_questions(listener: str) -> None:
    """A request without a valid question in any dialect is denied with the same bytes, and takes aiohttp's path."""
    both = []
    for fast_path in (True, False):
        async with open_house() as fake_service, Door(fake_service, fast_path=fast_path).open() as door:
            both.append(await said(door, listener, 2 * [question("envoy", "/elsewhere")]))
            assert door.by_aiohttp == (0 if fast_path and listener == "envoy" else 2)
    assert both[0] == both[1]


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
    with_line(b"Content-Encoding: gzip"),
    with_line(b"X: "),
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
async def test_unusual_requests_take_the_path_of_aiohttp(asked: bytes) -> None:
    """The answer has the same bytes and the same end; requests behind it are judged on both paths or on none."""
    both = []
    for fast_path in (True, False):
        async with (
            open_house() as fake_service,
            Door(fake_service, fast_path=fast_path).open() as door,
            door.client() as client,
        ):
            first = await client.ask(asked)
            assert door.by_aiohttp == (0 if decisions(first) == ["bad_proxy_request"] else 1)
            client.send(REFUSED + LAST)
            both.append((first, await client.rest(), fake_service.watch.reasons))
    assert both[0] == both[1]


@pytest.mark.parametrize("line", [b"Content-Length: 0", b"Accept: */*", b"Connection: keep-alive", b"User-Agent: x"])
async def test_usual_requests_take_the_fast_path(line: bytes) -> None:
    """Also with headers that only seem to have a meaning."""
    both = []
    for fast_path in (True, False):
        async with open_house() as fake_service, Door(fake_service, fast_path=fast_path).open() as door:
            both.append(await said(door, "envoy", 3 * [with_line(line)]))
            assert door.by_aiohttp == (1 if fast_path else 3)
    assert both[0] == both[1]
