"""Limits of routes: shadow mode, and a bucket for each client address at a public route."""

from dataclasses import replace

from extauthz.core.hosts import configured_host
from extauthz.core.limits import Limits, Rate
from extauthz.core.routes import Bucket, Match, Route, RouteTable

PUBLIC = Route("/p/**", public=True, rate="60/min", burst=30)


def match(method: str, path: str, *routes: Route, host: str | None = None) -> Match:
    found = RouteTable.compile(routes, {}).match(method, configured_host(host or ""), path)
    assert found is not None
    return found


def bucket(route: Route, *others: Route) -> Bucket:
    method = min(route.methods) if route.methods else "GET"
    found = match(method, route.path.replace("**", "x"), *others, route, host=route.host).bucket
    assert found is not None
    return found


def test_shadow() -> None:
    """A route in shadow mode marks every method and resource; the default enforces."""
    routes = (
        Route("/{resource}/**", limits="shadow"),
        Route("/p", public=True, rate="1", burst=2, limits="shadow"),
        Route("/e", resource="e"),
    )
    for method in ("GET", "POST"):
        assert match(method, "/a/b", *routes).shadow
        assert match(method, "/p", *routes).shadow
        assert not match(method, "/e", *routes).shadow


def test_a_bucket_keeps_its_name() -> None:
    """Its name is the same in every version, order, spelling of the host, rate and burst: state in Redis lasts."""
    assert bucket(PUBLIC) == Bucket("de5210ed414b382d", Limits(rate=Rate(60, 60), burst=30))
    same = (replace(PUBLIC, rate="1/d"), replace(PUBLIC, burst=1), replace(PUBLIC, limits="shadow"))
    assert {bucket(route, Route("/**", resource="api")).name for route in same} == {bucket(PUBLIC).name}
    get = replace(PUBLIC, host="h", methods=frozenset({"GET", "HEAD"}))
    assert bucket(replace(get, host="H.", methods=frozenset(["HEAD", "GET"]))).name == bucket(get).name


def test_each_route_has_its_own_bucket() -> None:
    """Another path, host or set of methods is another bucket, as they are other routes."""
    get = frozenset({"GET"})
    routes = [
        PUBLIC,
        replace(PUBLIC, path="/p"),
        replace(PUBLIC, host="h"),
        replace(PUBLIC, host="GET"),
        replace(PUBLIC, methods=get),
        replace(PUBLIC, host="h", methods=get),
        replace(PUBLIC, methods=get | {"PUT"}),
    ]
    assert len({bucket(route).name for route in routes}) == len(routes)


def test_routes_without_a_bucket() -> None:
    """Public routes without a rate, and routes that ask for a credential, have no bucket by address."""
    for route in (Route("/a", public=True), Route("/{resource}"), Route("/a", resource="a")):
        assert match("GET", "/a", route).bucket is None
