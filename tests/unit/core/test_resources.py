"""Names of resources in permissions: a name without a route is detected, and the nearest one suggested."""

from extauthz.core.resources import Resources
from extauthz.core.routes import Route, RouteTable

FROM_PATH = RouteTable.compile(
    [
        Route("/api/open/**", public=True),
        Route("/api/{resource}/**"),
        Route("/api/reports/**", resource="report"),
        Route("/v2/*/{resource}", host="a.example.org", methods=frozenset({"PUT"})),
        Route("/v2/*/parts", host="a.example.org", resource="part"),
    ],
    {"orders": "order", "old": "new", "clients": "customer", "parties": "orders-of-all"},
).resources
FIXED = RouteTable.compile([Route("/a", resource="order"), Route("/b/**", resource="invoice")], {}).resources


def test_names_that_routes_use() -> None:
    """Fixed names, names of mapped segments, and any segment that is not mapped to another name."""
    names = ["order", "customer", "report", "part", "parts", "anything", "new", "Order", "orders-of-all"]
    assert [name for name in names if name not in FROM_PATH] == []


def test_mapped_segment_is_not_a_name() -> None:
    """No route uses it, because the path's segment is mapped to another name: that one is suggested."""
    for name, meant in {"orders": "order", "old": "new", "clients": "customer"}.items():
        assert name not in FROM_PATH
        assert FROM_PATH.meant(name) == meant


def test_a_segment_in_front_of_which_a_literal_stands() -> None:
    """Where `/api/reports/**` has a name of its own, no path names `reports`, unless another route takes it."""
    routes = [Route("/api/{resource}/**"), Route("/api/reports/**", resource="report")]
    assert "reports" not in RouteTable.compile(routes, {}).resources
    assert RouteTable.compile(routes, {}).resources.meant("reports") == "report"
    assert "reports" in RouteTable.compile([*routes, Route("/v2/{resource}")], {}).resources


def test_near_misses_of_fixed_names() -> None:
    """A name that differs by case, an ending or a letter is suggested; a name without a like gets no advice."""
    meant = {"orders": "order", "Order": "order", "oder": "order", "invoce": "invoice", "zebra": ""}
    assert {name: FIXED.meant(name) for name in meant} == meant
    assert not [name for name in meant if name in FIXED]
    mapped = Resources({"order"}, {"customers": "client", "old": "gone"}, None)
    assert {name: mapped.meant(name) for name in ("customer", "customers", "old")} == {
        "customer": "client",
        "customers": "client",
        "old": "gone",
    }


def test_two_segments_that_change_places() -> None:
    """A segment that another one is mapped to is a name all the same."""
    resources = RouteTable.compile([Route("/{resource}")], {"a": "b", "b": "a"}).resources
    assert "a" in resources
    assert "b" in resources
