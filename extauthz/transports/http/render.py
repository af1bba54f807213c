"""The parts of an answer that dialects share."""

import json
from collections.abc import Callable, Collection, Sequence

from extauthz.core import headers
from extauthz.core.decision import Allow, Deny
from extauthz.core.reason import OUTCOMES
from extauthz.transports.http.dialect import Answer, Headers, Wording

PROBLEM_JSON = "application/problem+json"
# draft-ietf-httpapi-ratelimit-headers registers this problem type for exceeded quotas.
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


def allow(decision: Allow, wording: Wording, unsaid: Callable[[Sequence[str]], Headers]) -> Answer:
    """A 200 for the proxy. `unsaid` says, in the dialect's way, which names must not pass as the client sent them."""
    who = _identity(decision)
    said = {name for name, _ in who}
    names = [name for name in headers.IDENTITY if name not in said]
    if wording.strip_credential:
        names.insert(0, headers.AUTHORIZATION)
    return Answer(200, [*_common(decision), *who, *unsaid(names), *_for_client(decision, wording)])


def deny(denial: Deny, wording: Wording) -> Answer:
    """The true status, with a problem+json body."""
    pairs = [*_common(denial), *_for_client(denial, wording), (headers.CONTENT_TYPE, PROBLEM_JSON)]
    return Answer(OUTCOMES[denial.reason].status, pairs, problem(denial))


def deny_in_headers(denial: Deny, wording: Wording, understood: Collection[int]) -> Answer:
    """A status that the proxy understands, else 403, the true one beside it; no body."""
    status = OUTCOMES[denial.reason].status
    pairs = [*_common(denial), (headers.STATUS, str(status)), *_for_client(denial, wording)]
    if denial.balance is not None:  # as it will stand in the body that the proxy makes
        pairs.append((headers.VIOLATED, ",".join(f'"{name}"' for name in denial.balance.refused)))
    return Answer(status if status in understood else 403, pairs)


def emptied(names: Sequence[str]) -> Headers:
    """Names that overwrite the client's own with nothing."""
    return [(name, "") for name in names]


def _common(decision: Allow | Deny) -> Headers:
    """What stands on every answer."""
    return [
        (headers.DECISION, decision.reason.value),
        (headers.CACHE_CONTROL, "no-store"),
        (headers.SERVER, "extauthz"),
    ]


def _identity(decision: Allow) -> Headers:
    """Who passed, for the upstream."""
    who = decision.identity
    if who is None:
        return []
    return [
        (headers.ORGANIZATION_ID, who.organization_id),
        (headers.API_KEY_ID, who.api_key_id),
        (headers.PERMISSIONS, who.granted),
        (headers.PLAN, who.plan),
    ]


def _for_client(decision: Allow | Deny, wording: Wording) -> Headers:
    """What the API client may see: limits, when to come back, the code of a refusal."""
    pairs: Headers = []
    if decision.balance is not None and not (isinstance(decision, Allow) and decision.shadow):
        pairs += headers.rate_limit_headers(decision.balance, wording.families)
    if isinstance(decision, Allow):
        if decision.degraded:
            pairs.append((headers.DEGRADED, "limits"))
        return pairs
    pairs.append((headers.CODE, decision.code))
    if decision.retry_after is not None:
        pairs.append((headers.RETRY_AFTER, str(decision.retry_after)))
    error = OUTCOMES[decision.reason].error
    if error is not None:
        pairs.append((headers.WWW_AUTHENTICATE, headers.challenge(error, decision.scope)))
    return pairs


def problem(denial: Deny) -> bytes:
    """The body of a refusal (RFC 9457)."""
    outcome = OUTCOMES[denial.reason]
    fields: dict[str, object] = {
        "type": "about:blank" if denial.balance is None else QUOTA_EXCEEDED,
        "title": outcome.title,
        "status": outcome.status,
        "code": denial.code,
    }
    if denial.balance is not None:
        fields["violated-policies"] = list(denial.balance.refused)
    return json.dumps(fields, separators=(",", ":")).encode()
