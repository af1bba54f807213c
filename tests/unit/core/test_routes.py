import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.errors import ConfigError
from extauthz.core.hosts import normal_host
from extauthz.core.routes import DEFAULT_ROUTES, Match, Route, RouteTable
from tests.generated import examples

CONTRACT = (
    Route("/public/**", public=True),
    Route("/api/v1/{resource}/**"),
    Route(
        "/api/v1/reports/**",
        host="api.example.com",
        methods=frozenset({"POST"}),
        resource="report",
        mode="read",
        cost=10,
    ),
)


def table(*routes: Route, **resources: str) -> RouteTable:
    return RouteTable.compile(routes, resources)


def named(*paths: str) -> RouteTable:
    """A table whose resources are called r0, r1 and so on, by the order of the paths."""
    return table(*(Route(path, resource=f"r{number}") for number, path in enumerate(paths)))


def found(routes: RouteTable, path: str, *, method: str = "GET", host: str | None = None) -> str | None:
    match = routes.match(method, None if host is None else normal_host(host), path)
    return match.resource if match else None


def test_example_of_the_contract() -> None:
    """The routes of the documentation answer as it says."""
    routes = table(*CONTRACT, customers="customer")
    assert routes.match("GET", "x", "/api/v1/customers/7?a=/public/") == Match(
        "customer", "read", 1, False, True, path="/api/v1/{resource}/**"
    )
    assert routes.match("POST", "api.example.com", "/api/v1/reports/1") == Match(
        "report", "read", 10, False, True, path="/api/v1/reports/**"
    )
    assert routes.match("POST", "other", "/api/v1/reports/1") == Match(
        "reports", "write", 1, False, True, path="/api/v1/{resource}/**"
    )
    assert routes.match("GET", None, "/public/a/b") == Match("", "read", 1, True, True, path="/public/**")
    assert routes.match("GET", None, "/other") is None


def test_default_routes() -> None:
    """Without a file every path asks for `api`."""
    assert found(table(*DEFAULT_ROUTES), "/") == found(table(*DEFAULT_ROUTES), "/a/b?c") == "api"


SHAPES = [
    ("/a", ["/a", "/a?x"], ["/a/", "/A", "/", "/a/b"]),
    ("/a/", ["/a/"], ["/a"]),
    ("/a/*", ["/a/b", "/a/", "/a/%20"], ["/a", "/a/b/c", "/a/b/"]),
    ("/a/**", ["/a", "/a/", "/a/b", "/a/b/c/"], ["/ab", "/"]),
    ("/", ["/", "/?x"], ["/a"]),
    ("/*/b", ["/a/b", "/c/b"], ["/a", "/a/c", "/a/b/c"]),
    ("/%20/b", ["/%20/b"], ["/ /b"]),
]


def test_patterns() -> None:
    """`*` is one segment, `**` zero or more, a slash at the end one more empty segment, the query is not looked at."""
    for pattern, matching, others in SHAPES:
        routes = named(pattern)
        assert [path for path in matching + others if found(routes, path)] == matching


WINNERS = [
    (["/**", "/a/**", "/a/b"], "/a/b", "r2"),
    (["/a/b/**", "/a/*/c"], "/a/b/c", "r0"),
    (["/a", "/a/**"], "/a", "r0"),
    (["/a/*", "/a/**"], "/a/x", "r0"),
    (["/a/b/c", "/a/*/d"], "/a/b/d", "r1"),
    (["/a/b/c", "/a/**"], "/a/b/d", "r1"),
    (["/a/b/c/d", "/a/*/c/e", "/**"], "/a/b/c/f", "r2"),
    (["/a/**", "/a/*/c/**", "/a/b/d"], "/a/b/c/d/e", "r1"),
]


def test_most_specific_wins() -> None:
    """From the left a literal before one segment before many, whatever the order; dead ends fall back."""
    for patterns, path, winner in WINNERS:
        routes = [Route(pattern, resource=f"r{number}") for number, pattern in enumerate(patterns)]
        assert {found(table(*order), path) for order in permutations(routes)} == {winner}


def test_host_before_methods() -> None:
    """Among equal paths the route with a host wins, then the one with methods; others are skipped."""
    get = frozenset({"GET"})
    routes = [
        Route("/a", resource="plain"),
        Route("/a", resource="get", methods=get),
        Route("/a", resource="host", host="h"),
        Route("/a", resource="both", host="h", methods=get),
    ]
    for order in permutations(routes):
        compiled = table(*order, Route("/**", resource="wide"), Route("/b", resource="b", host="h"))
        assert found(compiled, "/a", host="h") == "both"
        assert found(compiled, "/a", host="h", method="POST") == "host"
        assert found(compiled, "/a", host="x") == "get"
        assert found(compiled, "/a", host="x", method="POST") == "plain"
        assert found(compiled, "/a", host="x", method="HEAD") == "get"
        assert found(compiled, "/a", method="get") is None
        assert found(compiled, "/b", host="x") == "wide"
    for order in permutations(routes[:3]):
        assert found(table(*order), "/a", host="h") == "host"


def test_host_is_compared_without_case_port_and_dot() -> None:
    """Spellings of one host are one host, on both sides; another host does not match."""
    routes = table(Route("/", host="Api.Example.com.", resource="a"))
    for host in ("api.example.com", "API.Example.COM", "api.example.com.", "api.example.com:8443"):
        assert found(routes, "/", host=host) == "a"
    for host in ("example.com", "api.example.com.evil", "xapi.example.com"):
        assert found(routes, "/", host=host) is None


def test_ipv6_hosts() -> None:
    """An address in brackets keeps its colons, and its canonical form matches, however the route writes it."""
    routes = table(Route("/", host="[0:0::1]", resource="a"))
    assert found(routes, "/", host="[::1]:80") == found(routes, "/", host="[::1]") == "a"


def test_reading_methods() -> None:
    """GET, HEAD and OPTIONS read; anything else, other case included, writes; a route can fix it."""
    routes = table(Route("/a", resource="a"), Route("/w", resource="a", mode="write"))
    modes = dict.fromkeys(("GET", "HEAD", "OPTIONS"), "read")
    modes |= dict.fromkeys(("get", "head", "options", "DELETE", "PURGE"), "write")
    for method, mode in modes.items():
        match, fixed = routes.match(method, None, "/a"), routes.match(method, None, "/w")
        assert match is not None
        assert fixed is not None
        assert (match.mode, fixed.mode) == (mode, "write")


def test_resource_from_the_path() -> None:
    """The segment is the resource, by its name in [resources] if it has one."""
    routes = RouteTable.compile([Route("/{resource}/**")], {"customers": "customer", "credit.notes": "credit_note"})
    names = {"invoices": "invoices", "customers": "customer", "credit.notes": "credit_note", "a" * 64: "a" * 64}
    assert {segment: found(routes, f"/{segment}/1") for segment in names} == names


def test_segment_that_cannot_be_a_resource() -> None:
    """A segment that cannot be a resource matches nothing, not even a wider route."""
    routes = table(Route("/v1/{resource}/x"), Route("/**", resource="api"))
    for segment in ("", "a.b", "a%20b", "a" * 65, "é", "*", "{resource}", "a\n"):
        assert found(routes, f"/v1/{segment}/x") is None


def test_another_encoding_of_a_literal() -> None:
    """A literal in another encoding matches nothing: it must not fall through to a wider route."""
    routes = named("/v1/things:cancel", "/%C3%A9", "/v1/w", "/**")
    for path in ("/v1/things%3Acancel", "/v1/things%3acancel", "/%c3%a9", "/v1/%77"):
        assert found(routes, path) is None


def test_known_resources() -> None:
    """The table lists its resources, unless a path can name any."""
    assert set(named("/a", "/b").resources) == {"r0", "r1"}
    assert set(table(Route("/a", resource="a"), Route("/b", public=True)).resources) == {"a"}
    assert "anything" in table(*CONTRACT).resources
    assert "anything" not in table(Route("/a", resource="a")).resources


def test_what_a_table_says_of_its_routes() -> None:
    """Which of them are charged, and whether one names a host."""
    hosted, public = Route("/h", host="h", resource="a"), Route("/p", public=True)
    routes = table(hosted, public, Route("/s", resource="a", limits="shadow"), Route("/a", resource="a"))
    assert [route.path for route in routes.charged] == ["/h", "/a"]
    assert routes.names_hosts
    assert not table(public).names_hosts


def test_resources_that_a_path_can_name() -> None:
    """Behind a host, a method, a wildcard or a slash at the end; not where a literal stands in front."""
    patterns = ["/{resource}", "/{resource}/", "/{resource}/*", "/{resource}/**", "/*/{resource}", "/*/{resource}/**"]
    for pattern in patterns:
        for route in (Route(pattern), Route(pattern, host="h"), Route(pattern, methods=frozenset({"PUT"}))):
            assert "x" in table(route, Route("/public/x", public=True)).resources
    get, post = (Route("/x", methods=frozenset({method}), resource="fixed") for method in ("GET", "POST"))
    assert "x" in table(Route("/{resource}"), get).resources
    assert "x" in table(Route("/{resource}"), post).resources
    assert "x" not in table(Route("/{resource}"), Route("/x", resource="fixed")).resources


GET = frozenset({"GET"})
DEAR = Route("/a", methods=GET, resource="dear", mode="write", cost=10, cache=False)
WIDER = Route("/**", public=True)


def test_a_route_for_get_holds_for_head() -> None:
    """With its resource, mode, cost and cache: HEAD asks for what GET gives, and is never judged by a wider route."""
    for order in permutations((DEAR, WIDER, Route("/a", resource="other"))):
        routes = table(*order)
        assert (
            routes.match("HEAD", None, "/a")
            == routes.match("GET", None, "/a")
            == Match("dear", "write", 10, False, False, path="/a")
        )
        assert found(routes, "/a", method="POST") == "other"
    public = table(Route("/a", methods=GET, public=True), Route("/**", resource="api"))
    assert public.match("HEAD", None, "/a") == Match("", "read", 1, True, True, path="/a")


def test_a_route_that_names_head() -> None:
    """It matches HEAD beside a route for GET of the same path and host; elsewhere the more specific one does."""
    head = Route("/a", methods=frozenset({"HEAD", "PUT"}), resource="head")
    for order in permutations((DEAR, head, WIDER)):
        assert found(table(*order), "/a", method="HEAD") == "head"
        assert found(table(*order), "/a", method="GET") == "dear"
    for other in (replace(head, path="/*"), replace(head, path="/**"), replace(head, host="h")):
        routes = table(DEAR, other)
        assert found(routes, "/a", host="x", method="HEAD") == "dear"
    assert found(table(replace(DEAR, host="h"), head), "/a", host="h", method="HEAD") == "dear"
    assert (
        found(table(replace(DEAR, path="/{resource}", resource=None), replace(head, path="/*")), "/a", method="HEAD")
        == "head"
    )
    assert found(table(DEAR, replace(head, host="h")), "/a", host="h", method="HEAD") == "head"


def test_a_method_that_differs_by_case_alone() -> None:
    """A named method in another case matches no route, because some frameworks treat both alike."""
    routes = table(Route("/a", methods=frozenset({"GET", "POST", "Purge"}), resource="a"), Route("/**", resource="api"))
    for path in ("/a", "/b", "/c/d"):
        for method in ("get", "Get", "post", "pOST", "head", "HeaD", "purge", "PURGE", "po\u017ft"):
            assert routes.match(method, None, path) is None
        for method in ("GET", "HEAD", "POST", "Purge", "PUT", "put", "POSTS", "", "po st", "\udcff"):
            assert routes.match(method, None, path) is not None
        assert table(Route("/**", resource="api")).match("post", None, path) is not None


# --- the tree against a plain search

SEGMENTS = st.sampled_from(["a", "b", "*", "{resource}", "%20"])
PATTERNS = st.tuples(st.lists(SEGMENTS, max_size=4), st.sampled_from(["", "/", "/**"])).map(
    lambda parts: "".join(f"/{segment}" for segment in parts[0]) + parts[1] or "/"
)
ROUTES = st.builds(
    Route,
    PATTERNS,
    host=st.sampled_from([None, "h"]),
    methods=st.sampled_from(
        [
            None,
            *(frozenset(names.split()) for names in ("GET", "PUT", "HEAD", "GET PUT", "GET HEAD", "HEAD PUT", "pURGE")),
        ]
    ),
    resource=st.just("fixed"),
    cost=st.integers(1, 10**9),
)


def fits(route: Route, method: str, host: str, path: str, others: Sequence[Route]) -> bool:
    parts = [re.escape(part) if part not in ("*", "{resource}") else "[^/]*" for part in route.path.split("/")]
    pattern = "/".join(parts).replace(r"/\*\*", "(?:/.*)?")
    return (
        re.fullmatch(pattern, path) is not None
        and route.host in (None, host)
        and (
            route.methods is None
            or method in route.methods
            or (method == "HEAD" and "GET" in route.methods and not any(names_head_beside(route, o) for o in others))
        )
    )


def names_head_beside(route: Route, other: Route) -> bool:
    path, same = (each.path.replace("{resource}", "*") for each in (route, other))
    return path == same and route.host == other.host and "HEAD" in (other.methods or ())


def rank(route: Route) -> tuple[list[int], bool, bool]:
    kinds = {"*": 1, "{resource}": 1, "**": 3}
    segments = route.path.split("/")[1:]
    # The end of a pattern comes before `**`, which would go on.
    return [*(kinds.get(segment, 0) for segment in segments), 2], route.host is None, route.methods is None


def apart(routes: list[Route]) -> list[Route]:
    """Those of the routes that may be in one table."""
    unique: list[Route] = []
    for route in routes:
        whole = replace(route, resource=None) if "{resource}" in route.path else route
        try:
            RouteTable.compile([*unique, whole], {})
        except ConfigError:
            continue
        unique.append(whole)
    return unique


def path_of(pattern: str) -> str:
    """A path that may match a pattern."""
    return pattern.replace("{resource}", "c").replace("/**", "/d/e").replace("*", "f")


METHODS = st.sampled_from(["GET", "PUT", "HEAD", "POST", "get", "Head", "PURGE", "pURGE", "purge"])


@given(st.lists(ROUTES, max_size=8), PATTERNS, METHODS, st.sampled_from(["h", "x"]))
def test_tree_agrees_with_a_search(routes: list[Route], path: str, method: str, host: str) -> None:
    """The tree finds what trying every route and sorting by the contract's order finds."""
    unique, path = apart(routes), path_of(path)
    best = min((route for route in unique if fits(route, method, host, path, unique)), key=rank, default=None)
    named = {name for route in unique for name in route.methods or ()}
    named |= {"HEAD"} if "GET" in named else set()
    if method not in named and method.lower() in {name.lower() for name in named}:
        best = None
    match = table(*unique).match(method, host, path)
    if best is not None and "{resource}" in best.path:
        segment = path.split("/")[best.path.split("/").index("{resource}")]
        assert (match and (match.resource, match.cost)) == ((segment, best.cost) if segment.isalnum() else None)
    else:
        assert (match and match.cost) == (best and best.cost)


@examples(10, 20_000)
@given(st.lists(ROUTES, min_size=1, max_size=8), PATTERNS, METHODS, st.sampled_from(["h", "x"]))
def test_last_segment_without_meaning(routes: list[Route], above: str, method: str, host: str) -> None:
    """Where the table marks the last segment as irrelevant, paths that differ in it alone have the same route."""
    routing = table(*apart(routes))
    stem = path_of(above).removesuffix("/")
    places = [routing.match(method, host, f"{stem}/{end}") for end in ("a", "b", "c", "42", "x.y", "d~e_F-9", "a?x/y")]
    told = {routing.takes_any_end(f"{stem}/{end}") for end in ("a", "42", "a?x/y")}
    assert len(told) == 1
    if told == {True}:
        assert len(set(places)) == 1


def test_last_segment_with_meaning() -> None:
    """A literal or a resource in the last segment distinguishes paths; an id there does not."""
    routing = table(
        Route("/v1/{resource}/**"), Route("/v1/orders/*/lines", resource="lines"), Route("/public/*", public=True)
    )
    free = ["/v1/orders/42", "/v1/orders/42/lines/7", "/v1/orders/42?page=/2", "/a/b/c/d/e"]
    assert [path for path in free if not routing.takes_any_end(path)] == []
    telling = ["/v1", "/v1/orders", "/v1/orders/42/lines", "/v1/orders/42/x", "/public", "/public/7", "/x/y"]
    assert [path for path in telling if routing.takes_any_end(path)] == []


DOCUMENTED = table(*CONTRACT)
WIDE = named("/**", "/api/*/%20/x")


@given(st.text(), st.text(), st.text())
def test_any_text_is_matched_or_not(method: str, host: str, path: str) -> None:
    """No method, host or path makes the table raise."""
    for routes in (DOCUMENTED, WIDE):
        routes.match(method, host, path)
        routes.match(method, host, f"/api/v1/{path}/x")


def test_long_paths_cost_no_more_than_the_routes_are_deep() -> None:
    """A path of many segments is split no further than the deepest route looks."""
    assert found(named("/a/**"), "/a" * 30_000) == "r0"
    assert found(named("/a/a"), "/a" * 30_000) is None
