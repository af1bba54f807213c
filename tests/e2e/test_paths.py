"""Paths that could be checked as one thing and read by the upstream as another."""

from itertools import product

import pytest

from extauthz.demo.stack import Proxy
from tests.e2e.client import ask, bearer
from tests.e2e.site import Customer

TRICKS = (
    "//",
    "/./",
    "/../",
    "/%2e/",
    "/%2e%2e/",
    "/.%2E/",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    "/..\\",
    "/..%5c",
    ";/",
    ";x=1/",
    "/..;/",
    "/%00/",
    "%00",
    "/%20/",
    "/%61/",
    "/%25%32%65/",
    "/%252e%252e/",
    "#/",
    "%23/",
    "?/",
    "/\xe9/",
    "/%e9/",
    "/%C3%A9/",
    "/%c0%ae%c0%ae/",
    "/\x7f/",
    "/%zz/",
    "/%/",
    "/~/",
    "/:/",
    "/@/",
)
PATHS = [
    "//",
    "///api/v1/invoices/1",
    "/api/v1/customers/..",
    "/api/v1/customers/.",
    "/api/v1/customers//",
    "/..",
    "/.",
    "/%2e%2e/api/v1/invoices",
    "/public/..;/api/v1/invoices/1",
    "/public/../api/v1/invoices/1",
    "*",
    "api/v1/customers/1",
    "http://api.example.com/api/v1/invoices/1",
    "http://api.example.com//api/v1/invoices/1",
    "http://user@api.example.com/public/../api/v1/invoices/1",
    "https://api.example.com",
    *(
        f"{start}{trick}{end}"
        for (start, end), trick in product(
            [("/api/v1/customers", "1"), ("/public", "api/v1/invoices/1"), ("/api/v1/customers/1", "../../invoices/1")],
            TRICKS,
        )
    ),
]
UNREADABLE = ("//", "/./", "/../", "%2e", "%2f", "%5c", "\\", ";", "%00", "#")


def judged_as(path: str) -> str:
    """The permission that a request for a plain path needs, as `resource:mode`."""
    plain = path.partition("?")[0]
    assert not [trick for trick in UNREADABLE if trick in plain.lower()], f"the upstream saw {path}"
    assert not plain.endswith(("/.", "/.."))
    first, _, rest = plain.removeprefix("/").partition("/")
    if first == "public":
        return ""
    api, version, resource = (first, *rest.split("/"))[:3]
    assert (api, version) == ("api", "v1")
    return {"customers": "customer", "invoices": "invoice"}.get(resource, resource) + ":read"


@pytest.mark.parametrize("who", ["customer", "reader", "nobody"])
def test_a_path_is_checked_as_the_upstream_reads_it(
    proxy: Proxy, customer: Customer, reader: Customer, who: str
) -> None:
    """A path is refused, or the upstream gets the path that was checked; no path causes a 5xx."""
    headers = {"customer": bearer(customer.key), "reader": bearer(reader.key), "nobody": {}}[who]
    granted = set()
    for path in PATHS:
        answer = ask(proxy, path, headers)
        assert answer.status in {200, 400, 401, 403}, f"{path!r}: {answer}"
        if answer.status == 200:
            granted.add(answer.seen.get("x-permissions", ""))
            assert judged_as(answer.json["path"]) == answer.seen.get("x-permissions", ""), f"{path!r}: {answer}"
    assert (
        granted
        <= {
            "customer": {"", "customer:read", "invoice:read", "1:read"},
            "reader": {"", "customer:read"},
            "nobody": {""},
        }[who]
    )
    assert granted


@pytest.mark.parametrize("tail", ["%C3%A9?q=../..//%2f;", "a%20b", "@:~!$&'()*+,=", "", "?", "1?q=%zz"])
def test_a_plain_path_arrives_byte_for_byte(proxy: Proxy, customer: Customer, tail: str) -> None:
    """Neither proxy rewrites a path that has one meaning, nor any query."""
    path = f"/api/v1/customers/{tail}"
    assert ask(proxy, path, bearer(customer.key)).json["path"] == path


@pytest.mark.parametrize("query", ["/../public/x", "//public", "%2e%2e%2f", "x=/api/v1/customers/1", ";", "%zz"])
def test_the_query_is_not_part_of_the_path(proxy: Proxy, reader: Customer, query: str) -> None:
    """Nothing behind `?` is matched, whatever it looks like."""
    assert ask(proxy, f"/api/v1/invoices/1?{query}", bearer(reader.key)).decision == "permission_denied"
    assert ask(proxy, f"/api/v1/customers/1?{query}", bearer(reader.key)).decision == "allow"


@pytest.mark.parametrize(
    ("path", "normalised"),
    [
        ("/api/v1/customers/../invoices/1", "/api/v1/invoices/1"),
        ("/public/%2e%2e/api/v1/invoices/1", "/api/v1/invoices/1"),
        ("/api/v1//invoices/./1", "/api/v1/invoices/1"),
        ("/api/v1/customers%2f..%2Finvoices", None),
        ("/api/v1/customers/%5c../invoices", None),
    ],
)
def test_each_proxys_way(proxy: Proxy, customer: Customer, path: str, normalised: str | None) -> None:
    """Envoy makes one meaning of a path before the check, or refuses it; nginx sends it on to be refused."""
    answer = ask(proxy, path, bearer(customer.key))
    if proxy.name == "nginx":
        assert answer.decision == "path_ambiguous"
    elif normalised is None:
        assert (answer.status, answer.decision) == (400, None)
    else:
        assert (answer.json["path"], answer.seen["x-permissions"]) == (normalised, "invoice:read")
