"""The decisions of the contract and their one table: HTTP status and, for 401 and 403, the Bearer challenge."""

from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple


class Reason(StrEnum):
    """The token of a decision, as `x-extauthz-decision`, logs and metrics carry it."""

    ALLOW = "allow"
    NO_CREDENTIALS = "no_credentials"
    MALFORMED_CREDENTIALS = "malformed_credentials"
    INVALID_CREDENTIALS = "invalid_credentials"
    ORGANIZATION_SUSPENDED = "organization_suspended"
    PERMISSION_DENIED = "permission_denied"
    ROUTE_NOT_ALLOWED = "route_not_allowed"
    PATH_AMBIGUOUS = "path_ambiguous"
    HOST_AMBIGUOUS = "host_ambiguous"
    BAD_PROXY_REQUEST = "bad_proxy_request"
    COST_EXCEEDS_LIMIT = "cost_exceeds_limit"
    RATE_LIMITED = "rate_limited"
    DAILY_QUOTA_EXCEEDED = "daily_quota_exceeded"
    MONTHLY_QUOTA_EXCEEDED = "monthly_quota_exceeded"
    HOURLY_QUOTA_EXCEEDED = "hourly_quota_exceeded"
    CREDITS_EXHAUSTED = "credits_exhausted"
    AUTHENTICATION_UNAVAILABLE = "authentication_unavailable"
    LIMITS_UNAVAILABLE = "limits_unavailable"


class Outcome(NamedTuple):
    """What a decision is on the wire.

    `error` is the RFC 6750 §3.1 error of the `WWW-Authenticate` challenge: None for no challenge, "" for a bare one.
    """

    status: int
    title: str
    error: str | None


def _outcome(status: HTTPStatus, error: str | None = None) -> Outcome:
    return Outcome(status.value, status.phrase, error)


OUTCOMES: dict[Reason, Outcome] = {
    Reason.ALLOW: _outcome(HTTPStatus.OK),
    Reason.NO_CREDENTIALS: _outcome(HTTPStatus.UNAUTHORIZED, ""),
    Reason.MALFORMED_CREDENTIALS: _outcome(HTTPStatus.UNAUTHORIZED, "invalid_request"),
    Reason.INVALID_CREDENTIALS: _outcome(HTTPStatus.UNAUTHORIZED, "invalid_token"),
    Reason.ORGANIZATION_SUSPENDED: _outcome(HTTPStatus.FORBIDDEN),
    Reason.PERMISSION_DENIED: _outcome(HTTPStatus.FORBIDDEN, "insufficient_scope"),
    Reason.ROUTE_NOT_ALLOWED: _outcome(HTTPStatus.FORBIDDEN),
    Reason.PATH_AMBIGUOUS: _outcome(HTTPStatus.FORBIDDEN),
    Reason.HOST_AMBIGUOUS: _outcome(HTTPStatus.FORBIDDEN),
    Reason.BAD_PROXY_REQUEST: _outcome(HTTPStatus.FORBIDDEN),
    Reason.COST_EXCEEDS_LIMIT: _outcome(HTTPStatus.FORBIDDEN),
    Reason.RATE_LIMITED: _outcome(HTTPStatus.TOO_MANY_REQUESTS),
    Reason.DAILY_QUOTA_EXCEEDED: _outcome(HTTPStatus.TOO_MANY_REQUESTS),
    Reason.MONTHLY_QUOTA_EXCEEDED: _outcome(HTTPStatus.TOO_MANY_REQUESTS),
    Reason.HOURLY_QUOTA_EXCEEDED: _outcome(HTTPStatus.TOO_MANY_REQUESTS),
    Reason.CREDITS_EXHAUSTED: _outcome(HTTPStatus.TOO_MANY_REQUESTS),
    Reason.AUTHENTICATION_UNAVAILABLE: _outcome(HTTPStatus.SERVICE_UNAVAILABLE),
    Reason.LIMITS_UNAVAILABLE: _outcome(HTTPStatus.SERVICE_UNAVAILABLE),
}
