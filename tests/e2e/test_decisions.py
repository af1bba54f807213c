"""Every refusal with 401 or 403, and an allowed request: what client and upstream get of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from extauthz.app import management
from extauthz.demo.stack import Proxy
from tests.e2e.client import Answer, Client, ask, bearer
from tests.e2e.site import Customer, Site, issue
from tests.servers.waiting import eventually

UNAUTHORIZED, FORBIDDEN = (401, "Unauthorized"), (403, "Forbidden")
READ, WRITE = "GET", "POST"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request, by whose key or what credential it carries, and the refusal that it must get."""

    title: str
    outcome: tuple[int, str]
    decision: str
    code: str = ""
    challenge: str | None = None
    who: str = ""
    authorization: str | None = None
    method: str = READ
    path: str = "/api/v1/customers/42"

    def ask(self, proxy: Proxy, keys: Mapping[str, str]) -> Answer:
        """The answer of a proxy."""
        return ask(proxy, self.path, self.headers(keys), method=self.method)

    def headers(self, keys: Mapping[str, str]) -> dict[str, str]:
        """The credential, if any."""
        if self.who:
            return bearer(keys[self.who])
        return {} if self.authorization is None else {"Authorization": self.authorization}

    def check(self, answer: Answer) -> None:
        """Checks everything that a client can see of it."""
        status, title = self.outcome
        code = self.code or self.decision
        assert (answer.status, answer.decision, answer["x-extauthz-code"]) == (status, self.decision, code)
        assert answer["content-type"] == "application/problem+json"
        assert answer.json == {"type": "about:blank", "title": title, "status": status, "code": code}
        assert answer["cache-control"] == "no-store"
        assert answer.get("www-authenticate") == self.challenge
        assert not [name for name in answer.names if "ratelimit" in name or name == "retry-after"]
        assert not answer.names & {"x-organization-id", "x-api-key-id", "x-permissions", "x-plan", "x-extauthz-status"}


BARE, MALFORMED = 'Bearer realm="api"', 'Bearer realm="api", error="invalid_request"'
INVALID = 'Bearer realm="api", error="invalid_token"'
SCOPE = 'Bearer realm="api", error="insufficient_scope", scope="{}"'
REFUSALS = [
    Refusal("no credential", UNAUTHORIZED, "no_credentials", challenge=BARE),
    Refusal("another scheme", UNAUTHORIZED, "no_credentials", challenge=BARE, authorization="Basic dTpw"),
    Refusal("empty", UNAUTHORIZED, "no_credentials", challenge=BARE, authorization=""),
    *(
        Refusal(
            f"malformed: {value!r}", UNAUTHORIZED, "malformed_credentials", challenge=MALFORMED, authorization=value
        )
        for value in ("Bearer", "Bearer a b", "Bearer a,b", "Bearer \xff\xfe", "Bearer " + "(" * 40)
    ),
    *(
        Refusal(story, UNAUTHORIZED, "invalid_credentials", challenge=INVALID, who=story)
        for story in ("unknown", "revoked", "disabled", "expired", "wrong environment", "wrong check characters")
    ),
    Refusal("suspended", FORBIDDEN, "organization_suspended", who="suspended"),
    Refusal(
        "write without the permission",
        FORBIDDEN,
        "permission_denied",
        "write_action_not_allowed_for_customer",
        SCOPE.format("customer:write"),
        who="reader",
        method=WRITE,
    ),
    Refusal(
        "read without the permission",
        FORBIDDEN,
        "permission_denied",
        "read_action_not_allowed_for_invoice",
        SCOPE.format("invoice:read"),
        who="reader",
        path="/api/v1/invoices/7?all=1",
    ),
    Refusal("no route", FORBIDDEN, "route_not_allowed", who="customer", path="/elsewhere"),
    Refusal("ambiguous path", FORBIDDEN, "path_ambiguous", who="customer", path="/api/v1/customers;v=2/42"),
    Refusal("costs more than fits", FORBIDDEN, "cost_exceeds_limit", who="small", path="/api/v1/reports/1"),
]


@pytest.fixture(scope="session")
def keys(site: Site, customer: Customer, reader: Customer, bad_keys: dict[str, str]) -> dict[str, str]:
    """The keys of the refusals, by name."""
    suspended = site.customer()

    async def suspend(operator: management.Management) -> None:
        await operator.tenants.update_organization(suspended.organization, {"status": "suspended"})

    site.manage(suspend)
    small = site.customer(rate="1/s", burst=9)
    whole = {"customer": customer, "reader": reader, "suspended": suspended, "small": small}
    return bad_keys | {name: owner.key for name, owner in whole.items()}


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.title)
def test_a_refusal_word_for_word(proxy: Proxy, keys: dict[str, str], refusal: Refusal) -> None:
    """Status, code, challenge (once) and problem+json are those of the contract, the same behind both proxies."""
    refusal.check(refusal.ask(proxy, keys))


def test_every_bad_key_gets_the_same_bytes(proxy: Proxy, bad_keys: dict[str, str]) -> None:
    """An answer does not reveal why a key was refused, nor whether it ever existed."""

    def visible(key: str) -> tuple[object, ...]:
        answer = ask(proxy, headers=bearer(key))
        return answer.status, answer.body, [pair for pair in answer.headers if pair[0] != "date"]

    assert len({repr(visible(key)) for key in bad_keys.values()}) == 1
    assert visible(bad_keys["revoked"])[0] == 401


def test_a_refusal_never_reaches_the_upstream(site: Site, keys: dict[str, str]) -> None:
    """Not even a connection is made to it."""
    with site.without_upstream() as door:
        for proxy in site.stack.proxies:
            for refusal in REFUSALS:
                refusal.check(refusal.ask(proxy, keys))
        with pytest.raises(BlockingIOError):
            door.accept()


def test_refusals_are_free(site: Site, proxy: Proxy) -> None:
    """A request that is refused with 401 or 403 is not charged."""
    owner = site.customer(permissions={"customer": frozenset({"read"})}, rate="1/h", burst=5, daily_quota=5)
    for path in ("/api/v1/invoices", "/elsewhere", "/api/v1/customers;", "/api/v1/reports/1"):
        assert ask(proxy, path, bearer(owner.key)).status == 403
    assert ask(proxy, headers=bearer(owner.key))["ratelimit"].startswith('"burst";r=4;t=3600, "daily";r=4;')


def test_two_credentials_are_refused(proxy: Proxy, customer: Customer) -> None:
    """Of two `Authorization` headers none is chosen: Envoy joins them, which is malformed, nginx takes neither."""
    good = ("Authorization", f"Bearer {customer.key}")
    for pair in ([good, ("Authorization", "Bearer other")], [("authorization", "Basic dTpw"), good], [good, good]):
        answer = ask(proxy, headers=pair)
        if proxy.name == "nginx":
            assert (answer.status, answer.decision) == (400, None)
        else:
            assert answer.status == 401
            assert answer.decision in {"malformed_credentials", "no_credentials"}


def test_bytes_that_are_not_http(site: Site, proxy: Proxy) -> None:
    """A control character in a credential ends at Envoy with 400, behind nginx with `bad_proxy_request`; no 5xx."""
    for authorization in ("Bearer a\x01b", "Bearer \x7f", "\x02"):
        answer = ask(proxy, headers={"Authorization": authorization})
        if proxy.name == "envoy":
            assert (answer.status, answer.decision) == (400, None)
        else:
            Refusal("", FORBIDDEN, "bad_proxy_request").check(answer)
    assert not [line for line in site.log() if line["level"] in {"error", "critical"}]


def test_allowed(proxy: Proxy, customer: Customer) -> None:
    """The upstream gets the request as sent, its identity and no credential; the client gets the upstream's answer."""
    answer = ask(proxy, "/api/v1/invoices/7?page=2&q=a%2Fb", bearer(customer.key) | {"X-Other": "kept"}, method="PUT")
    assert (answer.status, answer.decision, answer["content-type"]) == (200, "allow", "application/json; charset=utf-8")
    assert (answer.json["method"], answer.json["path"]) == ("PUT", "/api/v1/invoices/7?page=2&q=a%2Fb")
    seen = answer.seen
    assert (seen["x-organization-id"], seen["x-api-key-id"]) == (customer.organization, customer.key_id)
    assert (seen["x-permissions"], seen["x-plan"], seen["x-other"]) == ("invoice:write", customer.plan, "kept")
    assert (seen["host"], seen.keys() & {"authorization", "x-subject"}) == ("api.example.com", set())
    assert not answer.names & {"x-extauthz-code", "x-organization-id", "www-authenticate", "retry-after"}


def test_a_public_route(site: Site, proxy: Proxy, customer: Customer) -> None:
    """It is open to all requests, with any credential, and the upstream gets no identity of them."""
    for headers in ({}, bearer(customer.key), bearer("nonsense"), bearer("(")):
        answer = ask(proxy, "/public/prices", headers)
        assert (answer.status, answer.decision) == (200, "allow")
        assert not [name for name in answer.seen if name.startswith(("x-organ", "x-api", "x-perm", "x-plan", "auth"))]
        assert not [name for name in answer.names if "ratelimit" in name]


def test_revoked_is_refused(site: Site, proxy: Proxy) -> None:
    """A key that has just passed, and is cached, is refused after `revoke`."""
    owner = site.customer()
    assert ask(proxy, headers=bearer(owner.key)).status == 200

    async def revoke(operator: management.Management) -> None:
        await operator.keys.revoke(owner.key_id, last=True)

    site.manage(revoke)
    eventually(lambda: ask(proxy, headers=bearer(owner.key)).decision == "invalid_credentials")


def test_every_decision_is_counted(site: Site, proxy: Proxy, customer: Customer) -> None:
    """`extauthz_decisions_total` counts by dialect and decision."""
    names = [f"extauthz_decisions_total/{decision}/{proxy.name}" for decision in ("allow", "invalid_credentials")]
    before = site.metrics()
    with Client(proxy.port) as client:
        for key in (customer.key, issue(), customer.key):
            client.ask(headers=bearer(key))
    after = site.metrics()
    assert [after[name] - before[name] for name in names] == [2, 1]
