"""A browser from an allowed origin: its preflight passes without a key, and it may read every answer."""

import pytest

from extauthz.demo.stack import Proxy
from tests.e2e.client import Answer, ask, bearer
from tests.e2e.site import Customer, Site

ORIGIN = "https://app.example.com"
ASKS = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
STRANGERS = [
    "https://evil.example.com",
    "https://app.example.com.evil.test",
    "http://app.example.com",
    "null",
]


def words(answer: Answer, name: str) -> set[str]:
    """The entries of a list in a header."""
    return {word.strip().lower() for value in answer.all(name) for word in value.split(",")}


def test_a_preflight(site: Site, proxy: Proxy) -> None:
    """The proxy answers it, without asking extauthz or the upstream."""
    before = site.decisions()
    with site.without_upstream() as door:
        answer = ask(proxy, headers={"Origin": ORIGIN} | ASKS, method="OPTIONS")
        with pytest.raises(BlockingIOError):
            door.accept()
    assert (answer.status, answer.decision, answer.body) == (204 if proxy.name == "nginx" else 200, None, b"")
    assert answer["access-control-allow-origin"] == ORIGIN
    assert words(answer, "access-control-allow-methods") == {"get", "head", "post", "put", "patch", "delete"}
    assert words(answer, "access-control-allow-headers") == {"authorization", "content-type"}
    assert answer["access-control-max-age"] == "600"
    assert site.decisions() == before


@pytest.mark.parametrize("origin", STRANGERS)
def test_a_preflight_of_another_origin(proxy: Proxy, origin: str) -> None:
    """One from another origin is a request without a key, and its page may read nothing."""
    answer = ask(proxy, headers={"Origin": origin} | ASKS, method="OPTIONS")
    assert (answer.status, answer.decision) == (401, "no_credentials")
    assert not [name for name in answer.names if name.startswith("access-control")]


def test_options_without_preflight_headers(site: Site, proxy: Proxy, customer: Customer, reader: Customer) -> None:
    """Any OPTIONS request other than a preflight is checked, needs `read`, and reaches the upstream."""
    for headers in ({}, {"Origin": ORIGIN}, ASKS):
        assert ask(proxy, headers=headers, method="OPTIONS").decision == "no_credentials"
    answer = ask(proxy, headers={"Origin": ORIGIN} | bearer(reader.key), method="OPTIONS")
    assert (answer.json["method"], answer.seen["x-permissions"]) == ("OPTIONS", "customer:read")


def test_answers_a_page_may_read(site: Site, proxy: Proxy, reader: Customer) -> None:
    """200, 401, 403 and 429 carry the CORS headers, once, and name those that a script may read."""
    spent = site.customer(daily_quota=1)
    assert ask(proxy, headers=bearer(spent.key)).status == 200
    replies = {
        200: ask(proxy, headers={"Origin": ORIGIN} | bearer(reader.key)),
        401: ask(proxy, headers={"Origin": ORIGIN}),
        403: ask(proxy, headers={"Origin": ORIGIN} | bearer(reader.key), method="DELETE"),
        429: ask(proxy, headers={"Origin": ORIGIN} | bearer(spent.key)),
    }
    for status, answer in replies.items():
        assert (answer.status, answer["access-control-allow-origin"]) == (status, ORIGIN)
        assert {"ratelimit", "ratelimit-policy", "retry-after"} <= words(answer, "access-control-expose-headers")
        assert "origin" in words(answer, "vary")


def test_answers_another_origin_may_not_read(proxy: Proxy, reader: Customer) -> None:
    """A page of another origin gets no CORS headers, on no answer; `Vary` has Origin for caches."""
    for headers in ({}, bearer(reader.key)):
        for origin in ({}, {"Origin": STRANGERS[0]}):
            answer = ask(proxy, headers=headers | origin)
            assert not [name for name in answer.names if name.startswith("access-control")]
            assert "origin" in words(answer, "vary")
