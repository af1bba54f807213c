"""Requests that several tests send, and checks of all parts of their answers but the numbers."""

from collections.abc import Mapping
from typing import Any

from extauthz.demo.stack import Proxy
from extauthz.service.check.rate_limit import JITTER
from tests.e2e.client import Answer, ask, bearer
from tests.e2e.site import Customer

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
LIMIT_HEADERS = ["ratelimit-policy", "ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]


def get(proxy: Proxy, owner: Customer, path: str = "/api/v1/customers/42") -> Answer:
    """A request with the key of that customer."""
    return ask(proxy, path, bearer(owner.key))


def check_refused(answer: Answer, decision: str, *violated: str) -> None:
    """Checks all parts of a 429 but its numbers."""
    assert (answer.status, answer.decision, answer["x-extauthz-code"]) == (429, decision, decision)
    assert answer.json == {
        "type": QUOTA_EXCEEDED,
        "title": "Too Many Requests",
        "status": 429,
        "code": decision,
        "violated-policies": list(violated),
    }
    assert (answer["content-type"], answer["cache-control"]) == ("application/problem+json", "no-store")
    late = int(answer["retry-after"]) - int(answer["x-ratelimit-reset"])  # that not all come back in one second
    assert 0 <= late <= (0 if decision == "rate_limited" else JITTER)
    assert answer["x-ratelimit-remaining"] == "0"
    assert "www-authenticate" not in answer.names


def check_unavailable(answer: Answer, decision: str = "authentication_unavailable") -> None:
    """Checks all parts of a 503 that extauthz answered."""
    assert (answer.status, answer.decision, answer["x-extauthz-code"]) == (503, decision, decision)
    assert answer.json == {"type": "about:blank", "title": "Service Unavailable", "status": 503, "code": decision}
    assert (answer["content-type"], answer["cache-control"]) == ("application/problem+json", "no-store")
    assert answer["retry-after"] == "1"
    assert not [name for name in answer.names if "ratelimit" in name or name == "www-authenticate"]


def usage(proxy: Proxy, owner: Customer) -> Any:
    """The answer of `/usage`: limits by name."""
    answer = ask(proxy, "/usage", bearer(owner.key))
    assert (answer.status, answer["content-type"], answer["cache-control"]) == (200, "application/json", "no-store")
    told = answer.json
    assert (told["organization_id"], told["api_key_id"]) == (owner.organization, owner.key_id)
    return told | {"limits": {limit.pop("name"): limit for limit in told["limits"]}}


def left(told: Mapping[str, Any]) -> dict[str, int]:
    """The balance of each limit; not of days and months without a quota."""
    return {name: limit["remaining"] for name, limit in told["limits"].items() if limit["limit"] is not None}
