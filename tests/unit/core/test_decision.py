"""Every decision as each dialect carries it: status, headers, body."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from extauthz.core.balance import Balance, LimitStatus
from extauthz.core.decision import (
    AUTHENTICATION_UNAVAILABLE,
    LIMITS_UNAVAILABLE,
    Allow,
    Decision,
    Deny,
    deny,
    deny_permission,
)
from extauthz.core.reason import OUTCOMES, Reason
from extauthz.core.subject import Identity
from extauthz.transports.http.dialect import Dialect, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx

ENVOY, NGINX, FORWARD = Envoy(Wording()), Nginx(Wording()), Forward(Wording())
WHO = Identity("org-1", "key-1", "customer:read", "pro")
BURST = LimitStatus("burst", 100, 2, 37, 1)
DAILY = LimitStatus("daily", 1000, 86_400, 0, 41_532)
IDENTITY = {"x-organization-id", "x-api-key-id", "x-subject", "x-permissions", "x-plan"}
BARE = 'Bearer realm="api"'


def limited(reason: Reason) -> Deny:
    return Deny(reason, reason.value, retry_after=7, balance=Balance((BURST, DAILY), ("burst", "daily"), 7, DAILY))


# decision, true status, status for nginx, code, challenge, Retry-After
DENIALS: list[tuple[Deny, int, int, str, str | None, str | None]] = [
    (deny(Reason.NO_CREDENTIALS), 401, 401, "no_credentials", BARE, None),
    (deny(Reason.MALFORMED_CREDENTIALS), 401, 401, "malformed_credentials", f'{BARE}, error="invalid_request"', None),
    (deny(Reason.INVALID_CREDENTIALS), 401, 401, "invalid_credentials", f'{BARE}, error="invalid_token"', None),
    (deny(Reason.ORGANIZATION_SUSPENDED), 403, 403, "organization_suspended", None, None),
    (
        deny_permission("customer", "write"),
        403,
        403,
        "write_action_not_allowed_for_customer",
        f'{BARE}, error="insufficient_scope", scope="customer:write"',
        None,
    ),
    (deny(Reason.ROUTE_NOT_ALLOWED), 403, 403, "route_not_allowed", None, None),
    (deny(Reason.PATH_AMBIGUOUS), 403, 403, "path_ambiguous", None, None),
    (deny(Reason.HOST_AMBIGUOUS), 403, 403, "host_ambiguous", None, None),
    (deny(Reason.BAD_PROXY_REQUEST), 403, 403, "bad_proxy_request", None, None),
    (deny(Reason.COST_EXCEEDS_LIMIT), 403, 403, "cost_exceeds_limit", None, None),
    (limited(Reason.RATE_LIMITED), 429, 403, "rate_limited", None, "7"),
    (limited(Reason.DAILY_QUOTA_EXCEEDED), 429, 403, "daily_quota_exceeded", None, "7"),
    (limited(Reason.MONTHLY_QUOTA_EXCEEDED), 429, 403, "monthly_quota_exceeded", None, "7"),
    (limited(Reason.HOURLY_QUOTA_EXCEEDED), 429, 403, "hourly_quota_exceeded", None, "7"),
    (replace(limited(Reason.CREDITS_EXHAUSTED), retry_after=None), 429, 403, "credits_exhausted", None, None),
    (AUTHENTICATION_UNAVAILABLE, 503, 503, "authentication_unavailable", None, "1"),
    (LIMITS_UNAVAILABLE, 503, 503, "limits_unavailable", None, "1"),
]
TITLES = {401: "Unauthorized", 403: "Forbidden", 429: "Too Many Requests", 503: "Service Unavailable"}
ALLOWS = [
    Allow(),
    Allow(WHO, degraded=True),
    Allow(WHO, Balance((BURST, DAILY), (), 0, DAILY), cost=1),
    Allow(WHO, Balance((), (), 0, None), cost=1),
]


def test_the_table_has_every_decision() -> None:
    """Each decision has its line here, and each outcome its decision."""
    assert {line[0].reason for line in DENIALS} | {Reason.ALLOW} == set(Reason) == set(OUTCOMES)


def test_denials_word_for_word() -> None:
    """Envoy and forward get the true status with problem+json, nginx a status it understands without a body."""
    for line in DENIALS:
        denied(line)


def denied(line: tuple[Deny, int, int, str, str | None, str | None]) -> None:
    denial, status, for_nginx, code, challenge, retry_after = line
    common = {
        "x-extauthz-decision": denial.reason.value,
        "cache-control": "no-store",
        "server": "extauthz",
        "x-extauthz-code": code,
    }
    common |= {"www-authenticate": challenge} if challenge else {}
    common |= {"retry-after": retry_after} if retry_after else {}
    problem: dict[str, object] = {"type": "about:blank", "title": TITLES[status], "status": status, "code": code}
    if status == 429:
        problem["type"] = "https://iana.org/assignments/http-problem-types#quota-exceeded"
        problem["violated-policies"] = ["burst", "daily"]
        common |= {
            "ratelimit-policy": '"burst";q=100;w=2, "daily";q=1000;w=86400',
            "ratelimit": '"burst";r=37;t=1, "daily";r=0;t=41532',
            "x-ratelimit-limit": "1000",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": "41532",
        }
    for dialect in (ENVOY, FORWARD):
        answer = dialect.render(denial)
        assert answer.status == status
        assert sorted(answer.headers) == sorted((common | {"content-type": "application/problem+json"}).items())
        assert json.loads(answer.body) == problem
    answer = NGINX.render(denial)
    assert (answer.status, answer.body) == (for_nginx, b"")
    common |= {"x-extauthz-status": str(status)} | ({"x-extauthz-violated": '"burst","daily"'} if status == 429 else {})
    assert sorted(answer.headers) == sorted(common.items())


def test_a_missing_permission_names_what_was_asked_for() -> None:
    """The code has mode and resource, and the scope is what a permission would have to name."""
    denial = Deny(Reason.PERMISSION_DENIED, "write_action_not_allowed_for_customer", scope="customer:write")
    assert deny_permission("customer", "write") == denial


def test_allow_names_the_subject() -> None:
    """The upstream gets the subject; unused identity headers are removed or emptied, and so is the credential."""
    expected = {
        "x-extauthz-decision": "allow",
        "cache-control": "no-store",
        "server": "extauthz",
        "x-organization-id": "org-1",
        "x-api-key-id": "key-1",
        "x-permissions": "customer:read",
        "x-plan": "pro",
        "x-extauthz-organization": "org-1",
        "x-extauthz-key": "key-1",
        "ratelimit-policy": '"burst";q=100;w=2, "daily";q=1000;w=86400',
        "ratelimit": '"burst";r=37;t=1, "daily";r=0;t=41532',
        "x-ratelimit-limit": "1000",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "41532",
    }
    answer = ENVOY.render(ALLOWS[2])
    assert (answer.status, answer.body) == (200, b"")
    removed = {"x-envoy-auth-headers-to-remove": "authorization,x-subject"}
    assert sorted(answer.headers) == sorted((expected | removed).items())
    for dialect in (NGINX, FORWARD):
        answer = dialect.render(ALLOWS[2])
        assert (answer.status, answer.body) == (200, b"")
        assert sorted(answer.headers) == sorted((expected | {"authorization": "", "x-subject": ""}).items())


def test_no_header_of_the_clients_own_survives() -> None:
    """On every allow, a public route's too, each identity header is set, emptied or removed, never two of these."""
    for allow, strip in product(ALLOWS, (True, False)):
        cleaned(allow, strip=strip)


def cleaned(allow: Allow, *, strip: bool) -> None:
    wanted = IDENTITY | ({"authorization"} if strip else set())
    for dialect in (Nginx(Wording(strip)), Forward(Wording(strip))):
        names = [name for name, _ in dialect.render(allow).headers]
        assert wanted <= set(names)
        assert len(names) == len(set(names))
        assert strip or "authorization" not in names
    answer = Envoy(Wording(strip)).render(allow)
    said = [name for name, _ in answer.headers]
    removed = dict(answer.headers)["x-envoy-auth-headers-to-remove"].split(",")
    assert IDENTITY & set(said) | set(removed) == wanted
    assert not set(said) & set(removed)


def test_uncharged_allow_is_marked() -> None:
    """`x-extauthz-degraded: limits` marks it, and no other answer has it."""
    for dialect in (ENVOY, NGINX, FORWARD):
        marked = [dict(dialect.render(allow).headers).get("x-extauthz-degraded") for allow in ALLOWS]
        assert marked == [None, "limits", None, None]


def every_answer(wording: Wording) -> Iterator[tuple[Dialect, Decision]]:
    dialects: list[Dialect] = [Envoy(wording), Nginx(wording), Forward(wording)]
    decisions: list[Decision] = [*ALLOWS, *(line[0] for line in DENIALS)]
    yield from product(dialects, decisions)


def test_rate_limit_headers_as_chosen() -> None:
    """Only the chosen families, and only on allow and 429; `Retry-After` stays whatever is chosen.

    No wait brings credits back, so their refusal names none.
    """
    for families in ((), ("ietf",), ("x",), ("ietf", "x")):
        for dialect, decision in every_answer(Wording(families=families)):
            names = {name for name, _ in dialect.render(decision).headers}
            told = decision.balance is not None and bool(decision.balance.limit_statuses)
            assert ("ratelimit" in names) == ("ratelimit-policy" in names) == (told and "ietf" in families)
            assert ("x-ratelimit-limit" in names) == (told and "x" in families)
            if isinstance(decision, Deny):
                waits = OUTCOMES[decision.reason].status in (429, 503)
                assert ("retry-after" in names) == (waits and decision.reason is not Reason.CREDITS_EXHAUSTED)


def test_headers_hold_nothing_that_breaks_a_line() -> None:
    """Every value is printable ASCII, every name occurs once, and no denial names its subject."""
    for dialect, decision in every_answer(Wording()):
        answer = dialect.render(decision)
        names = [name for name, _ in answer.headers]
        assert all(value.isascii() and (value.isprintable() or value == "") for _, value in answer.headers)
        assert len(names) == len(set(names))
        if isinstance(decision, Deny):
            assert not IDENTITY & set(names)
