"""Routes as the fast path remembers them: whatever was asked before, they are those of the pipeline."""

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.decision import Deny
from extauthz.core.failure import OnRedisDown
from extauthz.core.routes import Route
from extauthz.service.health import Health
from extauthz.transports.http.dialect import Dialect, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx, NginxQuestion
from extauthz.transports.http.fast_path import FastPath
from extauthz.transports.http.handler import CheckHandler
from extauthz.transports.http.plain import PlainRequest, recognise
from tests.generated import examples
from tests.servers.serving import question as asking
from tests.unit.service.fakes import FakeService

ROUTES = (
    Route("/api/{resource}/**"),
    Route("/api/orders/*/lines", resource="lines", methods=frozenset({"GET"})),
    Route("/files/*", resource="file"),
    Route("/files/index.html", public=True),
    Route("/**", resource="rest"),
)
ON_A_HOST = (*ROUTES, Route("/files/*", host="files.example.com", resource="other"))

SEGMENTS = ["api", "orders", "files", "lines", "index.html", "7", "a.b", "x_y~z-0"]
ODD = ["", ".", "..", "...", "a..b", "%61", "%2f", "a;b", "@", ":", "*", "{resource}", "api.", ".api", "A"]
segments = st.sampled_from(SEGMENTS) | st.sampled_from(ODD)
anywhere = st.lists(segments, max_size=5).map(lambda parts: "/" + "/".join(parts))
below = st.tuples(st.sampled_from(["", "/files", "/api", "/api/orders", "/api/orders/7"]), segments).map("/".join)
paths = anywhere | below
queries = st.sampled_from(["", "", "?", "?a=/b", "?/7", "??"])
targets = st.tuples(paths, queries).map("".join)
hosts = st.sampled_from(["api.example.com", "files.example.com", "FILES.example.com:443", "a/b", "x?y"])
methods = st.sampled_from(["GET", "POST", "PUT", "get", "a/b", "G?T"])
# A header's value, its absence, or its repetition.
times = st.sampled_from([1, 1, 1, 1, 0, 2])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A plain request that may be a question in any dialect."""
    target, capitals = draw(targets), draw(st.booleans())

    def written(name: str) -> str:
        return name.title() if capitals else name

    url = draw(st.sampled_from(["https://", "http://", "", "ftp://"])) + draw(hosts) + target
    lines = [
        *[f"{written('x-original-method')}: {draw(methods)}"] * draw(times),
        *[f"x-original-uri: {target}"] * draw(times),
        *[f"{written('x-original-url')}: {url}"] * draw(st.sampled_from([0, 0, 1])),
        *[f"x-original-host: {draw(hosts)}"] * draw(times),
        *[f"{written('x-forwarded-method')}: {draw(methods)}"] * draw(times),
        *[f"x-forwarded-uri: {target}"] * draw(times),
        *[f"x-forwarded-host: {draw(hosts)}"] * draw(times),
        f"x-request-id: {target}",
    ]
    method, prefix = draw(st.sampled_from(["GET", "POST", "PUT"])), draw(st.sampled_from(["", "/auth", "/auth/"]))
    head = f"{method} {prefix}{draw(targets)} HTTP/1.1", "Host: files.example.com"
    text = "\r\n".join([*head, *draw(st.permutations(lines))])
    return f"{text}\r\n\r\n".encode()


def handler_of(fake_service: FakeService, dialect: Dialect) -> CheckHandler:
    """The handler of a dialect."""
    health = Health(postgresql=fake_service.postgresql, redis=fake_service.redis, on_redis_down=OnRedisDown.OPEN)
    return CheckHandler(fake_service.service, dialect, deadline=5, health=health)


def leads(path: FastPath, data: bytes) -> object:
    """The route of a request on the fast path."""
    recognised = recognise(data)
    assert recognised is not None
    place = path.place(recognised[0], data)
    if place is None:
        return None
    return place.match or (place.always and place.always.decision)


def should_lead(fake_service: FakeService, handler: CheckHandler, data: bytes) -> object:
    """The route by the pipeline."""
    request = PlainRequest(data)
    asked = handler.dialect.asked(request.method, request.target, request)
    if asked is None:
        return None
    return fake_service.service.find_route(asked.method, asked.host, asked.path)


ENDS = ["7", "8", "index.html", "index%2ehtml", "..", "", "lines", "lines?x=/8", "8?x=/lines", "api"]
TARGETS = [f"{above}/{end}" for above in ("/files", "/api", "/api/orders/7") for end in ENDS]
DIALECTS = [Envoy(Wording()), Nginx(Wording()), Forward(Wording())]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.name)
def test_one_request_after_another(dialect: Dialect) -> None:
    """A remembered path never decides for another one that differs a little."""
    fake_service = FakeService(routes=ROUTES)
    handler = handler_of(fake_service, dialect)
    for one, other in product(TARGETS, TARGETS):
        path = FastPath(
            fake_service.fast, handler, tally=fake_service.watch.tally(dialect.name), observer=fake_service.rejections
        )
        for data in (asking(dialect.name, one), asking(dialect.name, other)):
            assert leads(path, data) == should_lead(fake_service, handler, data), (one, other)


@examples(25, 10_000)
@given(
    st.sampled_from([ROUTES, ON_A_HOST]),
    st.sampled_from(["", "/auth", "/auth/"]),
    st.sampled_from(["uri", "url"]),
    st.lists(requests(), min_size=1, max_size=25),
)
def test_requests_lead_where_the_pipeline_goes(
    routes: Sequence[Route], path_prefix: str, question: NginxQuestion, several: list[bytes]
) -> None:
    """In every dialect, with and without routes of hosts, for similar requests in any order."""
    fake_service = FakeService(routes=routes)
    wording = Wording()
    for dialect in (Envoy(wording, path_prefix=path_prefix), Nginx(wording, question=question), Forward(wording)):
        handler = handler_of(fake_service, dialect)
        path = FastPath(
            fake_service.fast, handler, tally=fake_service.watch.tally(dialect.name), observer=fake_service.rejections
        )
        for data in [*several, *several]:
            found, right = leads(path, data), should_lead(fake_service, handler, data)
            # A question without a path may be left to aiohttp, like a request that asks nothing.
            assert found == right or (found is None and isinstance(right, Deny)), data
