"""The parts of an answer that dialects share. What does not change from request to request is rendered once."""

import json
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from http import HTTPStatus

from extauthz.core import headers
from extauthz.core.decision import Allow, Deny
from extauthz.core.reason import OUTCOMES, Reason
from extauthz.core.subject import Identity
from extauthz.transports.http.dialect import Answer, Fixed, Headers, Wording

PROBLEM_JSON = "application/problem+json"
# draft-ietf-httpapi-ratelimit-headers registers this problem type for exceeded quotas.
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"

Unsaid = Callable[[Sequence[str]], Headers]


def allow(decision: Allow, wording: Wording, unsaid: Unsaid) -> Answer:
    """A 200 for the proxy. `unsaid` says, in the dialect's way, which names must not pass as the client sent them."""
    pairs: Headers = []
    if decision.balance is not None and not decision.shadow:
        pairs = headers.rate_limit_headers(decision.balance, wording.families)
    if decision.degraded:
        pairs.append((headers.DEGRADED, "limits"))
    return Answer(200, pairs, fixed=_about(decision.identity, unsaid, wording.strip_credential))


def deny(denial: Deny, wording: Wording) -> Answer:
    """The true status, with a problem+json body."""
    refused = () if OUTCOMES[denial.reason].status == HTTPStatus.TOO_MANY_REQUESTS else None
    body = _problem(denial.reason, denial.code, refused if denial.balance is None else denial.balance.refused)
    fixed = _refusal(denial.reason, denial.code, denial.scope, _WITH_BODY)
    return Answer(OUTCOMES[denial.reason].status, _when(denial, wording), body, fixed)


def deny_in_headers(denial: Deny, wording: Wording, understood: Collection[int]) -> Answer:
    """A status that the proxy understands, else 403, the true one beside it; no body."""
    status = OUTCOMES[denial.reason].status
    pairs = _when(denial, wording)
    if denial.balance is not None:  # as it will stand in the body that the proxy makes
        pairs.append((headers.VIOLATED, ",".join(f'"{name}"' for name in denial.balance.refused)))
    fixed = _refusal(denial.reason, denial.code, denial.scope, ((headers.STATUS, str(status)),))
    return Answer(status if status in understood else 403, pairs, fixed=fixed)


def emptied(names: Sequence[str]) -> Headers:
    """Names that overwrite the client's own with nothing."""
    return [(name, "") for name in names]


def to_log(organization_id: str, subject_id: str) -> Headers:
    """Whose request it was, for the access log of the proxy; empty values where that is not known."""
    return [(headers.LOG_ORGANIZATION, organization_id), (headers.LOG_KEY, subject_id)]


WITHOUT_SUBJECT = to_log("", "")

_WITH_BODY = ((headers.CONTENT_TYPE, PROBLEM_JSON),)


def _common(reason: Reason) -> Headers:
    """What stands on every answer."""
    return [
        (headers.DECISION, reason.value),
        (headers.CACHE_CONTROL, "no-store"),
        (headers.SERVER, "extauthz"),
    ]


@lru_cache(maxsize=1024)  # at some 1,400 bytes each
def _about(identity: Identity | None, unsaid: Unsaid, strip_credential: bool) -> Fixed:
    """That the request may pass, and its identity, for the upstream."""
    said: Headers = []
    if identity is not None:
        said = [
            (headers.ORGANIZATION_ID, identity.organization_id),
            (headers.API_KEY_ID, identity.subject_id),
            (headers.PERMISSIONS, identity.granted),
            (headers.PLAN, identity.plan),
        ]
    told = {name for name, _ in said}
    said += to_log(identity.organization_id, identity.subject_id) if identity is not None else WITHOUT_SUBJECT
    names = [name for name in headers.IDENTITY if name not in told]
    if strip_credential:
        names.insert(0, headers.AUTHORIZATION)
    return Fixed([*_common(Reason.ALLOW), *said, *unsaid(names)])


@lru_cache(maxsize=1024)
def _refusal(reason: Reason, code: str, scope: str | None, more: tuple[tuple[str, str], ...]) -> Fixed:
    """That the request may not pass, and why."""
    pairs = [*_common(reason), (headers.CODE, code)]
    error = OUTCOMES[reason].error
    if error is not None:
        pairs.append((headers.WWW_AUTHENTICATE, headers.challenge(error, scope)))
    return Fixed([*pairs, *more])


def _when(denial: Deny, wording: Wording) -> Headers:
    """What limits say of a refusal, and when to come back."""
    pairs: Headers = []
    if denial.balance is not None:
        pairs = headers.rate_limit_headers(denial.balance, wording.families)
    if denial.retry_after is not None:
        pairs.append((headers.RETRY_AFTER, str(denial.retry_after)))
    return pairs


@lru_cache(maxsize=1024)
def _problem(reason: Reason, code: str, refused: tuple[str, ...] | None) -> bytes:
    """The body of a refusal (RFC 9457); `refused` names the limits that refused it."""
    outcome = OUTCOMES[reason]
    fields: dict[str, object] = {
        "type": "about:blank" if refused is None else QUOTA_EXCEEDED,
        "title": outcome.title,
        "status": outcome.status,
        "code": code,
    }
    if refused is not None:
        fields["violated-policies"] = refused
    return json.dumps(fields, separators=(",", ":")).encode()
