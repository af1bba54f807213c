"""The headers that each dialect reads of a request, and no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from extauthz.core.request import Question
from extauthz.transports.http.dialect import Dialect, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx

ENVOY, NGINX, FORWARD = Envoy(Wording()), Nginx(Wording()), Forward(Wording())
BY_URL = Nginx(Wording(), question="url")
PREFIXED = Envoy(Wording(), path_prefix="/authz")
# What a proxy of each kind sends; the headers of the others stand beside them.
EVERYTHING = [
    ("Host", "envoy.example"),
    ("X-Forwarded-For", "203.0.113.7, 198.51.100.1"),
    ("X-Envoy-Expected-Rq-Timeout-Ms", "200"),
    ("X-Original-Method", "PUT"),
    ("X-Original-URI", "/nginx?a=1"),
    ("X-Original-Host", "nginx.example"),
    ("X-Real-IP", "203.0.113.8"),
    ("X-Forwarded-Method", "PATCH"),
    ("X-Forwarded-Uri", "/forward?b=2"),
    ("X-Forwarded-Host", "forward.example"),
    ("X-Request-ID", "r-1"),
    ("Authorization", "Bearer abc"),
    ("X-Organization-Id", "mine"),
]


def read(dialect: Dialect, *pairs: tuple[str, str], method: str = "GET", target: str = "/seen") -> Question | None:
    return dialect.read(method, target, CIMultiDict(pairs))


def without(*names: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in EVERYTHING if name not in names]


def test_each_dialect_reads_its_own_headers() -> None:
    """With the headers of all proxies at once, each listener reads the question of its own dialect."""
    ours = (("Bearer abc",), "r-1")
    assert read(ENVOY, *EVERYTHING, method="DELETE", target="/seen?c=3") == Question(
        "DELETE", "/seen?c=3", "envoy.example", *ours, "198.51.100.1", 0.2
    )
    assert read(NGINX, *EVERYTHING) == Question("PUT", "/nginx?a=1", "nginx.example", *ours, "203.0.113.8")
    assert read(FORWARD, *EVERYTHING) == Question("PATCH", "/forward?b=2", "forward.example", *ours, "198.51.100.1")


@pytest.mark.parametrize(
    ("dialect", "pairs"),
    [
        (NGINX, without("X-Original-Method")),
        (NGINX, without("X-Original-URI")),
        (NGINX, [*without("X-Original-Method"), ("X-Original-Method", "")]),
        (NGINX, [*without("X-Original-URI"), ("X-Original-URI", "")]),
        (NGINX, [*EVERYTHING, ("X-Original-Method", "PUT")]),
        (NGINX, [*EVERYTHING, ("X-Original-URI", "/public/")]),
        (NGINX, [*EVERYTHING, ("x-original-uri", "/nginx?a=1")]),
        (NGINX, [*without("X-Original-URI"), ("X-Original-URI", ""), ("X-Original-URL", "http://h/public/")]),
        (NGINX, [*EVERYTHING, ("X-Original-URI", ""), ("X-Original-URL", "http://h/public/")]),
        (FORWARD, without("X-Forwarded-Method")),
        (FORWARD, without("X-Forwarded-Uri")),
        (FORWARD, [*without("X-Forwarded-Method"), ("X-Forwarded-Method", "")]),
        (FORWARD, [*without("X-Forwarded-Uri"), ("X-Forwarded-Uri", "")]),
        (FORWARD, [*EVERYTHING, ("X-Forwarded-Method", "GET")]),
        (FORWARD, [*EVERYTHING, ("X-Forwarded-Uri", "/public/")]),
        *(
            (dialect, [*without(name), (name, method)])
            for dialect, name in ((NGINX, "X-Original-Method"), (FORWARD, "X-Forwarded-Method"))
            for method in (
                "GET, POST",
                "GET POST",
                "GET/1",
                "POST\x00",
                "(GET)",
                "G\u00cbT",
                "po\u017ft",
                "\udcff",
                " ",
            )
        ),
    ],
)
def test_method_and_path_missing_empty_or_repeated(dialect: Dialect, pairs: list[tuple[str, str]]) -> None:
    """Such a request, or one with an invalid method, is malformed, because a client may have set the header."""
    assert read(dialect, *pairs) is None


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("http://api.example.com/v1/a?b=/c", "api.example.com", "/v1/a?b=/c"),
        ("https://[::1]:8443/v1", "[::1]:8443", "/v1"),
        ("HTTPS://API.example.com:443/v1", "API.example.com:443", "/v1"),
        ("http://u:p@h/v1", "u:p@h", "/v1"),
        ("http://h:1:2/v1", "h:1:2", "/v1"),
        ("http:///v1", "", "/v1"),
        ("http://a b/v1", "a b", "/v1"),
        ("http://h/", "h", "/"),
        ("http://h//x", "h", "//x"),
        ("http://h/a://b/c", "h", "/a://b/c"),
        ("http://h/a#/public/x", "h", "/a#/public/x"),
        ("http://h/a/http://h/public/x", "h", "/a/http://h/public/x"),
    ],
)
def test_question_of_an_original_url(url: str, host: str, path: str) -> None:
    """Where nginx sends only `X-Original-URL`, host and path are those of the URL, unchanged."""
    question = read(BY_URL, *without("X-Original-URI", "X-Original-Host"), ("X-Original-URL", url))
    assert question is not None
    assert (question.method, question.host, question.path) == ("PUT", host, path)


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "/v1/a",
        "//h/v1/a",
        "://h/v1",
        "h/v1",
        "/admin?next=http://h/public/x",
        "http://h?next=/public/x",
        "http://h#/public/x",
        "http://h\\/public/x",
        "http:/h/public/x",
        "http:h/public/x",
        "ftp://h/v1",
        " http://h/v1",
        "",
    ],
)
def test_invalid_original_url(url: str) -> None:
    """A URL without a path, or with one that another reader could read differently, is malformed."""
    assert read(BY_URL, *without("X-Original-URI", "X-Original-Host"), ("X-Original-URL", url)) is None


@pytest.mark.parametrize("value", ["http://h/public/x", "/nginx?a=1", ""])
def test_only_the_configured_question_is_read(value: str) -> None:
    """The header of nginx's other question never replaces it: its presence, empty even, denies the request."""
    url, uri, host = ("X-Original-URL", "http://h/u"), ("X-Original-URI", value), ("X-Original-Host", value)
    mine = without("X-Original-URI", "X-Original-Host")
    assert read(BY_URL, *mine, url) is not None
    for more in ((uri,), (host,), (uri, uri), (url,), (uri, host)):
        assert read(BY_URL, *mine, url, *more) is None
    other = ("X-Original-URL", value)
    assert read(NGINX, *EVERYTHING) is not None
    assert read(NGINX, *EVERYTHING, other) is None
    assert read(NGINX, *EVERYTHING, other, other) is None
    assert read(NGINX, *without("X-Original-URI"), other) is None
    assert read(BY_URL, *EVERYTHING) is None


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/authz/api/v1?a=/authz", "/api/v1?a=/authz"),
        ("/authz/authz/x", "/authz/x"),
        ("/authz?a=1", "?a=1"),
        ("/authzfoo", "foo"),
        ("/authz", None),
        ("/api/v1", None),
        ("/AUTHZ/x", None),
        ("/%61uthz/x", None),
    ],
)
def test_prefix_that_envoy_puts_before_the_path(target: str, path: str | None) -> None:
    """It is removed once and byte for byte; a target without it did not come from the configured Envoy."""
    question = read(PREFIXED, target=target)
    assert (question and question.path) == path


@pytest.mark.parametrize("dialect", [ENVOY, NGINX, FORWARD])
def test_repeated_host_and_request_id_are_unused(dialect: Dialect) -> None:
    """They are optional; of two values neither is used, and the request is judged without."""
    names = ("Host", "X-Original-Host", "X-Forwarded-Host", "X-Request-ID")
    twice = read(dialect, *EVERYTHING, *((name, "other") for name in names))
    absent = read(dialect, *without(*names))
    for question in (twice, absent):
        assert question is not None
        assert (question.host, question.request_id) == ("", "")


@pytest.mark.parametrize("dialect", [ENVOY, NGINX, FORWARD])
def test_every_authorization_header_is_handed_on(dialect: Dialect) -> None:
    """All of them reach the core, which judges that there are two."""
    question = read(dialect, *EVERYTHING, ("authorization", "Bearer def"))
    assert question is not None
    assert question.authorization == ("Bearer abc", "Bearer def")
    question = read(dialect, *without("Authorization"))
    assert question is not None
    assert question.authorization == ()


def test_client_address_is_the_one_the_proxy_added() -> None:
    """A client's own `X-Forwarded-For` values come before it and are not used."""
    for dialect in (ENVOY, FORWARD):
        question = read(dialect, *EVERYTHING, ("X-Forwarded-For", "10.0.0.1 ,\t192.0.2.9 "))
        assert question is not None
        assert question.client_address == "192.0.2.9"
    question = read(NGINX, *EVERYTHING, ("X-Real-IP", "10.0.0.1"))
    assert question is not None
    assert question.client_address == ""


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("200", 0.2), ("20", 0.02), ("0020", 0.02), ("999999999", 999_999.999), ("19", None), ("2", None), ("1", None),
     ("0", None), ("000000000", None), ("-1", None), ("-20", None), ("+20", None), ("20.0", None), ("1.5", None),
     ("1e3", None), ("0x20", None), ("20 20", None), ("20,20", None), ("20ms", None), ("nan", None), ("\u0661", None),
     ("²", None), ("", None), ("9" * 10, None), ("9" * 5000, None)],
)  # fmt: skip
def test_timeout_of_envoy(said: str, seconds: float | None) -> None:
    """Whole milliseconds, at least twenty; any other value, and a repeated one, counts as absent."""
    twice = [*EVERYTHING, ("x-envoy-expected-rq-timeout-ms", said)]
    asked = read(ENVOY, *twice)
    assert asked is not None
    assert asked.time_left is None
    question = read(ENVOY, *without("X-Envoy-Expected-Rq-Timeout-Ms"), ("x-envoy-expected-rq-timeout-ms", said))
    assert question is not None
    assert question.time_left == seconds


@given(
    st.sampled_from([ENVOY, NGINX, BY_URL, FORWARD, PREFIXED]),
    st.text(min_size=1, max_size=20),
    st.lists(
        st.tuples(
            st.sampled_from([name for name, _ in EVERYTHING] + ["X-Original-URL", "X-Forwarded-For"]),
            st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
        ),
        max_size=8,
    ),
)
def test_any_headers_are_a_question_or_none(dialect: Dialect, target: str, pairs: list[tuple[str, str]]) -> None:
    """Reading any headers raises nothing; a question has a method and a path."""
    question = read(dialect, *pairs, target=target)
    assert question is None or (question.method and question.path)
