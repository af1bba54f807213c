"""Names that permissions can use: a name that no route can ask for is known as such, and what was meant is found."""

import pytest

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


@pytest.mark.parametrize(
    "name", ["order", "customer", "report", "part", "parts", "anything", "new", "Order", "orders-of-all"]
)
def test_what_a_route_can_ask_for(name: str) -> None:
    """Fixed names, the names of mapped segments, and any segment of a path that is not mapped to another name."""
    assert name in FROM_PATH


@pytest.mark.parametrize(("name", "meant"), [("orders", "order"), ("old", "new"), ("clients", "customer")])
def test_a_mapped_segment_is_no_name(name: str, meant: str) -> None:
    """No route can ask for it, since the path's segment stands for another name: that is what was meant."""
    assert name not in FROM_PATH
    assert FROM_PATH.meant(name) == meant


def test_a_segment_in_front_of_which_a_literal_stands() -> None:
    """Where `/api/reports/**` has a name of its own, no path names `reports`, unless another route takes it."""
    routes = [Route("/api/{resource}/**"), Route("/api/reports/**", resource="report")]
    assert "reports" not in RouteTable.compile(routes, {}).resources
    assert RouteTable.compile(routes, {}).resources.meant("reports") == "report"
    assert "reports" in RouteTable.compile([*routes, Route("/v2/{resource}")], {}).resources


@pytest.mark.parametrize(
    ("name", "meant"),
    [("orders", "order"), ("Order", "order"), ("oder", "order"), ("invoce", "invoice"), ("zebra", "")],
)
def test_near_misses_of_fixed_names(name: str, meant: str) -> None:
    """Off by case, an ending or a letter: the name is offered; what resembles none gets no advice."""
    assert name not in FIXED
    assert FIXED.meant(name) == meant


def test_two_segments_that_change_places() -> None:
    """A segment that another one is mapped to is a name all the same."""
    resources = RouteTable.compile([Route("/{resource}")], {"a": "b", "b": "a"}).resources
    assert "a" in resources
    assert "b" in resources
