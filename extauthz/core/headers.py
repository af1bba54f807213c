"""Every header name we read or write, in lower case, and the values of the rate limit headers.

draft-ietf-httpapi-ratelimit-headers (`RateLimit`, `RateLimit-Policy`), RFC 9110 §10.2.3 (`Retry-After`).
"""

from collections.abc import Collection

from extauthz.core.balance import Balance

AUTHORIZATION = "authorization"
CACHE_CONTROL = "cache-control"
CONTENT_TYPE = "content-type"
HOST = "host"
RETRY_AFTER = "retry-after"
SERVER = "server"
WWW_AUTHENTICATE = "www-authenticate"

DECISION = "x-extauthz-decision"
CODE = "x-extauthz-code"
STATUS = "x-extauthz-status"
DEGRADED = "x-extauthz-degraded"
VIOLATED = "x-extauthz-violated"
# For the proxy's own access log; the client is not to see them.
LOG_ORGANIZATION = "x-extauthz-organization"
LOG_KEY = "x-extauthz-key"

ORGANIZATION_ID = "x-organization-id"
API_KEY_ID = "x-api-key-id"
SUBJECT = "x-subject"
PERMISSIONS = "x-permissions"
PLAN = "x-plan"
IDENTITY = (ORGANIZATION_ID, API_KEY_ID, SUBJECT, PERMISSIONS, PLAN)

ENVOY_REMOVE = "x-envoy-auth-headers-to-remove"
ENVOY_TIME_LEFT = "x-envoy-expected-rq-timeout-ms"
FORWARDED_FOR = "x-forwarded-for"
FORWARDED_HOST = "x-forwarded-host"
FORWARDED_METHOD = "x-forwarded-method"
FORWARDED_URI = "x-forwarded-uri"
ORIGINAL_HOST = "x-original-host"
ORIGINAL_METHOD = "x-original-method"
ORIGINAL_URI = "x-original-uri"
ORIGINAL_URL = "x-original-url"
REAL_IP = "x-real-ip"
REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

IETF, X = "ietf", "x"


def rate_limit_headers(balance: Balance, families: Collection[str]) -> list[tuple[str, str]]:
    """What the client is told of its limits, in the families `ietf` and `x` that are wanted."""
    headers: list[tuple[str, str]] = []
    if IETF in families and balance.limit_statuses:
        policy = ", ".join([f'"{s.name}";q={s.size}{_parameter("w", s.window)}' for s in balance.limit_statuses])
        left = ", ".join([f'"{s.name}";r={s.remaining}{_parameter("t", s.reset)}' for s in balance.limit_statuses])
        headers += [("ratelimit-policy", policy), ("ratelimit", left)]
    binding = balance.binding
    if X in families and binding is not None:
        headers += [
            ("x-ratelimit-limit", str(binding.size)),
            ("x-ratelimit-remaining", str(binding.remaining)),
        ]
        if binding.reset is not None:
            headers.append(("x-ratelimit-reset", str(binding.reset)))
    return headers


def _parameter(name: str, seconds: int | None) -> str:
    """A parameter of a limit; nothing where the limit does not renew."""
    return "" if seconds is None else f";{name}={seconds}"


def challenge(error: str, scope: str | None) -> str:
    """The value of `WWW-Authenticate` (RFC 6750 §3)."""
    value = 'Bearer realm="api"'
    if error:
        value += f', error="{error}"'
    if scope is not None:
        value += f', scope="{scope}"'
    return value
