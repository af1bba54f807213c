"""The text of the headers that API clients read: limits as the drafts spell them, and the Bearer challenge."""

from extauthz.core import headers
from extauthz.core.balance import Balance, LimitStatus
from extauthz.core.reason import OUTCOMES, Reason

BURST = LimitStatus("burst", 100, 2, 37, 1)
DAILY = LimitStatus("daily", 100_000, 86_400, 99_213, 41_532)
BALANCE = Balance((BURST, DAILY), (), 0, BURST)
IETF = [
    ("ratelimit-policy", '"burst";q=100;w=2, "daily";q=100000;w=86400'),
    ("ratelimit", '"burst";r=37;t=1, "daily";r=99213;t=41532'),
]
X = [("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "37"), ("x-ratelimit-reset", "1")]


def test_rate_limit_headers_word_for_word() -> None:
    """The example of the contract, in the families that were chosen."""
    assert headers.rate_limit_headers(BALANCE, {"ietf", "x"}) == IETF + X
    assert headers.rate_limit_headers(BALANCE, {"ietf"}) == IETF
    assert headers.rate_limit_headers(BALANCE, {"x"}) == X
    assert headers.rate_limit_headers(BALANCE, frozenset()) == []


def test_the_binding_limit_is_the_old_headers_limit() -> None:
    """`X-RateLimit-*` describe the limit that refused, whatever else applies."""
    refused = Balance((BURST, DAILY), ("daily",), 41_532, DAILY)
    assert headers.rate_limit_headers(refused, {"x"}) == [
        ("x-ratelimit-limit", "100000"),
        ("x-ratelimit-remaining", "99213"),
        ("x-ratelimit-reset", "41532"),
    ]


def test_no_headers_without_limits() -> None:
    """A tenant without limits gets no headers of limits."""
    assert headers.rate_limit_headers(Balance((), (), 0, None), {"ietf", "x"}) == []


def test_challenges_word_for_word() -> None:
    """A request without a credential gets the bare challenge, others an error code (RFC 6750)."""
    bare = 'Bearer realm="api"'
    texts = {
        (Reason.NO_CREDENTIALS, None): bare,
        (Reason.MALFORMED_CREDENTIALS, None): f'{bare}, error="invalid_request"',
        (Reason.INVALID_CREDENTIALS, None): f'{bare}, error="invalid_token"',
        (Reason.PERMISSION_DENIED, "customer:read"): f'{bare}, error="insufficient_scope", scope="customer:read"',
    }
    for (reason, scope), text in texts.items():
        error = OUTCOMES[reason].error
        assert error is not None
        assert headers.challenge(error, scope) == text


def test_every_name_is_lower_case() -> None:
    """HTTP/2 and the code's comparisons require it; no two constants name the same header."""
    names = [value for name, value in vars(headers).items() if name.isupper() and isinstance(value, str)]
    assert all(name == name.lower() for name in names)
    assert len(set(names)) == len(names)
