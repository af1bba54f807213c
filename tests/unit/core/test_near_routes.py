"""Routes that nearly matched, and what was different."""

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.near_routes import NEAR_MAX, Asked, matched_route, near_routes
from extauthz.core.routes import Route, RouteTable

GET, POST = frozenset({"GET"}), frozenset({"POST"})
ROUTES = (
    Route("/api/v1/{resource}/**"),
    Route("/api/v1/reports/**", host="api.example.com", methods=POST, resource="report"),
    Route("/api/v1/reports/**", host="api.example.com", resource="report", mode="read"),
    Route("/api/v1/reports/**", methods=GET, resource="report"),
    Route("/health", public=True),
    Route("/files/a%20b", resource="file"),
    Route("/files/*", methods=GET, resource="file"),
    Route("/jobs/{resource}"),
)
TABLE = RouteTable.compile(ROUTES, {"customers": "customer"})
PARTS = (
    "api",
    "v1",
    "v2",
    "reports",
    "report",
    "customers",
    "health",
    "files",
    "a%20b",
    "a%20B",
    "jobs",
    "no.name",
    "",
)


def near(path: str, *, method: str = "GET", host: str = "api.example.com") -> list[tuple[str, str, str]]:
    """Path, cause and detail of each route that nearly matched."""
    asked = Asked(method, host, path)
    match = TABLE.match(method, host, path)
    matched = None if match is None else matched_route(TABLE, asked, match)
    return [(found.route.path, found.because, found.detail) for found in near_routes(TABLE, asked, matched)]


CAUSES = {
    ("/healt", "GET"): ("/health", "segment", "segment 1 must be `health`"),
    ("/health/?x", "GET"): ("/health", "segment", "the path ends with a slash, and the route does not"),
    ("/Health", "GET"): ("/health", "segment", "segment 1 must be `health` in this case"),
    ("/health/x", "GET"): ("/health", "segment", "the path goes on where the route ends"),
    ("/files/x", "POST"): ("/files/*", "method", "the route takes GET, HEAD"),
    ("/files/x", "get"): ("/files/*", "method", "the route takes GET, HEAD in capitals"),
    ("/files/%61%20b", "GET"): ("/files/a%20b", "encoding", "segment 2 is another encoding of `a%20b`"),
    ("/jobs/no.name", "GET"): (
        "/jobs/{resource}",
        "resource",
        "segment 2 cannot be a resource: 1 to 64 of A-Z a-z 0-9 _ -",
    ),
    ("/api/v2/customers/7", "GET"): ("/api/v1/{resource}/**", "segment", "segment 2 must be `v1`"),
    ("/api/v2/reports", "HEAD"): (
        "/api/v1/reports/**",
        "segment",
        "segment 2 must be `v1`; the route takes POST",
    ),
    ("/api/v1", "GET"): (
        "/api/v1/{resource}/**",
        "segment",
        "the path ends where the route goes on with /{resource}/**",
    ),
    ("/api/v1/reports/1", "GET"): (
        "/api/v1/{resource}/**",
        "less_specific",
        "/api/v1/reports/** is more specific",
    ),
}


def test_causes_of_near_routes() -> None:
    """A segment, the method, the encoding, the name of a resource; or another route is more specific."""
    found = {case: near(case[0], method=case[1]) for case in CAUSES}
    assert [case for case, told in found.items() if CAUSES[case] not in told] == []


def test_the_nearest_routes_are_the_first() -> None:
    """Those that fit but for a more specific one, then by the number of differences, then by likeness."""
    assert [because for _, because, _ in near("/files/%61%20b")] == ["less_specific", "encoding"]
    assert [path for path, *_ in near("/jobz")][:1] == ["/jobs/{resource}"]
    assert [detail.count(";") for *_, detail in near("/api/v2/reports/1", method="PUT")] == [0, 0, 1, 1]
    assert near("/api/v2/reports/1", method="get", host="other.example") != []


def test_a_host_that_is_another() -> None:
    """Routes of the same path for another host are listed, those with one difference first."""
    found = near("/api/v1/reports/1", method="POST", host="other.example")
    assert found.count(("/api/v1/reports/**", "host", "the route is for the host api.example.com")) == 2
    assert found[-1] == ("/api/v1/reports/**", "method", "the route takes GET, HEAD")


def test_request_without_near_routes() -> None:
    """A request that resembles no route has no near route."""
    assert near("/zzz/qqq/xxx/yyy") == []


@given(
    st.lists(st.sampled_from(PARTS), max_size=5).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(["GET", "HEAD", "POST", "get"]),
    st.sampled_from(["api.example.com", "other.example"]),
)
def test_the_match_is_explained_by_the_same_rules(path: str, method: str, host: str) -> None:
    """The matching route has no difference and is not among the near ones, of which there are few."""
    asked = Asked(method, host, path)
    match = TABLE.match(method, host, path)
    matched = None if match is None else matched_route(TABLE, asked, match)
    found = near_routes(TABLE, asked, matched)
    assert len(found) <= NEAR_MAX
    assert all(each.route is not matched for each in found)
    if match is not None and matched is not None:
        assert matched.path == match.path
        methods = TABLE.methods_of(matched)
        assert methods is None or method in methods
