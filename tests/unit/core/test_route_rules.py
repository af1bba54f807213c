from itertools import product

import pytest

from extauthz.core.errors import ConfigError
from extauthz.core.routes import Route, RouteTable


def mistakes(*routes: Route) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        RouteTable.compile(routes, {})
    return caught.value.mistakes


MISTAKES = [
    (Route("a", resource="a"), "path: must start with a slash, not 'a'"),
    (Route("", resource="a"), "path: must start with a slash"),
    (Route("/a//b", resource="a"), "path: no request can match"),
    (Route("/a?b", resource="a"), "path: no request can match"),
    (Route("/%61", resource="a"), "path: no request can match"),
    (Route("/é", resource="a"), "path: no request can match"),
    (Route("/**/a", resource="a"), "path: `**` must be the last segment"),
    (Route("/{id}", resource="a"), "path: a segment is a literal, `*`, `**` or {resource}, not '{id}'"),
    (Route("/a*", resource="a"), "path: a segment is"),
    (Route("/{resource}/{resource}"), "path: only one {resource}"),
    (Route("/a", host="a:80", resource="a"), "host: must be a name"),
    (Route("/a", host="*.a", resource="a"), "host: must be a name"),
    (Route("/a", host="127.1", resource="a"), "host: must be a name or an address in its usual form"),
    (Route("/a", host="a..b", resource="a"), "host: must be a name"),
    (Route("/a", host="[::g]", resource="a"), "host: must be a name"),
    (Route("/a", host="[::ffff:127.0.0.1]", resource="a"), "host: must be a name"),
    (Route("/a", host="", resource="a"), "host: must be a name"),
    (Route("/a", methods=frozenset(), resource="a"), "methods: must name at least one"),
    (Route("/a", methods=frozenset({"G T"}), resource="a"), "methods: must be names"),
    (Route("/a", methods=frozenset({"get"}), resource="a"), "methods: case matters: must be GET"),
    (Route("/a", mode="delete", resource="a"), "mode: must be read or write, not 'delete'"),
    (Route("/a", cost=0, resource="a"), "cost: must be a whole number from 1 to 1000000000, not 0"),
    (Route("/a", cost=10**9 + 1, resource="a"), "cost: must be"),
    (Route("/a", cost=True, resource="a"), "cost: must be"),
    (
        Route("/a", cost=-(2**64 - 1), resource="a"),
        "cost: must be a whole number from 1 to 1000000000, not -18446744073709551615",
    ),
    (
        Route("/a", cost=2**64, resource="a"),
        "cost: must be a whole number from 1 to 1000000000, not one of more than 64 bits",
    ),
    (Route("/a", resource="a b"), "resource: must be"),
    (Route("/a", resource=""), "resource: must be"),
    (Route("/a"), "resource: required"),
    (Route("/{resource}", resource="a"), "resource: is in the path already"),
    (Route("/a", public=True, resource="a"), "public: goes without"),
    (Route("/{resource}", public=True), "public: goes without"),
    (Route("/a", public=True, cost=2), "public: goes without"),
    (Route("/a", resource="a", limits="off"), "limits: must be enforce or shadow, not 'off'"),
    (Route("/a", public=True, limits="shadow"), "limits: nothing is limited on a public route without rate"),
    (Route("/a", public=True, rate="1"), "rate: rate and burst go together, both or none"),
    (Route("/a", public=True, burst=1), "burst: rate and burst go together, both or none"),
    (Route("/a", resource="a", rate="1", burst=1), "rate: only where public = true"),
    (Route("/{resource}", burst=1), "burst: only where public = true"),
    (Route("/a", public=True, rate="1", burst=0), "burst: must be a whole number from 1 to 1000000000, not 0"),
    (Route("/a", public=True, rate="1", burst=10**9 + 1), "burst: must be"),
    (Route("/a", public=True, rate="1", burst=True), "burst: must be"),
    (Route("/a", public=True, rate="0", burst=1), "rate: is 0: a rate is above 0"),
    (Route("/a", public=True, rate="1000000001", burst=1), "rate: '1000000001' is above 1000000000 a second"),
    (Route("/a", public=True, rate="0.0001", burst=1), "rate: must have at most 3 decimals per s (got '0.0001')"),
    *(
        (Route("/a", public=True, rate=rate, burst=1), "rate: must be a number with an optional /s")
        for rate in ("", "-1", "nan", "inf", "1e400", "1/w", "60 / min", "\n")
    ),
]


def test_mistakes() -> None:
    """Each mistake is one line that names the route's place and the key."""
    fine = Route("/fine", resource="a")
    for route, line in MISTAKES:
        (mistake,) = mistakes(fine, route)
        assert mistake.startswith(f"[[routes]] 2 {line}")
        assert mistake.isprintable()


def test_limits_by_address() -> None:
    """A public route may have any bucket that a plan may have, enforced or in the shadow."""
    for rate, burst, limits in product(("0.001", "1/d", "1000000000"), (1, 10**9), ("enforce", "shadow")):
        RouteTable.compile([Route("/a", public=True, rate=rate, burst=burst, limits=limits)], {})


EQUAL = [
    (Route("/a", resource="a"), Route("/a", resource="b")),
    (Route("/{resource}/b"), Route("/*/b", resource="b")),
    (Route("/a", resource="a", host="H"), Route("/a", resource="b", host="h.")),
    (Route("/a", resource="a", host="[::1]"), Route("/a", resource="b", host="[0::1]")),
    (Route("/a", resource="a", methods=frozenset("AB")), Route("/a", resource="b", methods=frozenset("BC"))),
]


def test_equal_routes() -> None:
    """Two routes between which only the order could choose are a mistake."""
    told = "[[routes]] 2: matches the same requests as [[routes]] 1; their path, host or methods must differ"
    for one, two in EQUAL:
        assert mistakes(one, two) == (told,)


def test_two_spellings_of_a_literal() -> None:
    """Two encodings of one literal are a mistake, also in the middle: the second could never match."""
    (mistake,) = mistakes(Route("/a:b/c", resource="a"), Route("/a%3Ab/d", resource="a"))
    assert mistake.startswith("[[routes]] 2 path: 'a%3Ab' is another spelling of 'a:b'")
    RouteTable.compile([Route("/*/c", resource="a"), Route("/%2A/d", resource="a")], {})
    RouteTable.compile([Route("/a:b/c", resource="a"), Route("/x/a%3Ab", resource="a")], {})
    (mistake,) = mistakes(Route("/*/a:b/**", resource="a"), Route("/{resource}/a%3Ab"))
    assert mistake.startswith("[[routes]] 2 path: 'a%3Ab' is another spelling of 'a:b'")


def test_all_mistakes_at_once() -> None:
    """Every mistake of every route and of [resources] is named, by the given places."""
    with pytest.raises(ConfigError) as caught:
        RouteTable.compile([Route("a"), Route("/b", cost=0)], {"x\n": "no name"}, numbers=[2, 5])
    assert str(caught.value) == "; ".join(caught.value.mistakes)
    assert [line.partition(":")[0] for line in caught.value.mistakes] == [
        "[[routes]] 2 path",
        "[[routes]] 2 resource",
        "[[routes]] 5 cost",
        "[[routes]] 5 resource",
        "[resources] 'x\\n'",
    ]
