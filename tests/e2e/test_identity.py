"""Identity headers come from extauthz alone: those of a client reach neither the upstream nor extauthz."""

import pytest

from extauthz.demo.stack import Proxy
from tests.e2e.client import ask, bearer
from tests.e2e.site import Customer, Site

LIE = "lie-5ce2"
OURS = ("X-Organization-Id", "X-Api-Key-Id", "X-Subject", "X-Permissions", "X-Plan")
ANSWERS = ("X-Extauthz-Status", "X-Extauthz-Code", "X-Extauthz-Decision", "X-Extauthz-Degraded", "X-Extauthz-Violated")
FROM_PROXIES = ("X-Original-URI", "X-Original-URL", "X-Original-Method", "X-Original-Host", "X-Forwarded-Method")
SPELLINGS = [str, str.lower, str.upper, str.swapcase]


def identity_of(owner: Customer) -> dict[str, str]:
    """The identity headers of a reader of customers."""
    return {
        "x-organization-id": owner.organization,
        "x-api-key-id": owner.key_id,
        "x-permissions": "customer:read",
        "x-plan": owner.plan,
    }


@pytest.mark.parametrize("spell", SPELLINGS, ids=["as-is", "lower", "upper", "swapped"])
@pytest.mark.parametrize("path", ["/api/v1/customers/42", "/public/prices"])
def test_a_clients_own_copies(proxy: Proxy, customer: Customer, spell: type[str], path: str) -> None:
    """In any spelling and number of a client's copies, the upstream sees extauthz's values alone, or none."""
    forged = [(spell(name), LIE) for name in OURS + ANSWERS for _ in range(2)]
    answer = ask(proxy, path, [*forged, *bearer(customer.key).items(), *forged])
    expected = {} if path.startswith("/public") else identity_of(customer)
    seen = answer.seen
    assert LIE not in str(seen)
    assert {name: seen.get(name) for name in map(str.lower, OURS)} == {
        name: expected.get(name) for name in map(str.lower, OURS)
    }
    assert LIE not in str(answer.headers)


@pytest.mark.parametrize("name", ["X_Organization_Id", "X-Organization_Id", "x_api_key_id", "X_Extauthz_Code"])
def test_underscores(proxy: Proxy, customer: Customer, name: str) -> None:
    """`X_Organization_Id`, which CGI and WSGI read as an identity header, is refused by Envoy and dropped by nginx."""
    answer = ask(proxy, headers=[(name, LIE), *bearer(customer.key).items()])
    if proxy.name == "envoy":
        assert (answer.status, answer.decision) == (400, None)
    else:
        assert identity_of(customer).items() <= answer.seen.items()
        assert LIE not in str(answer.seen)


@pytest.mark.parametrize("name", [*OURS, "Authorization", "X-Extauthz-Decision"])
def test_hop_by_hop_names(proxy: Proxy, customer: Customer, name: str) -> None:
    """A client that lists identity headers in Connection does not make the proxy drop them."""
    answer = ask(proxy, headers=[("Connection", f"close, {name}"), (name, LIE), *bearer(customer.key).items()])
    if name == "Authorization":
        assert answer.status in {400, 401}
    else:
        assert identity_of(customer).items() <= answer.seen.items()
        assert LIE not in str(answer.seen)


def test_headers_of_the_proxy(proxy: Proxy, customer: Customer) -> None:
    """A client cannot set what a proxy sends to extauthz: method, path, host, address, timeout, request id."""
    forged = [(name, "/public/prices") for name in FROM_PROXIES]
    forged += [("X-Real-IP", "192.0.2.1"), ("X-Forwarded-Uri", "/public/prices"), ("X-Forwarded-Host", LIE)]
    assert ask(proxy, headers=forged).decision == "no_credentials"
    answer = ask(proxy, headers=[*forged, *bearer(customer.key).items(), ("X-Request-ID", LIE)])
    assert answer.json["path"] == "/api/v1/customers/42"
    assert identity_of(customer).items() <= answer.seen.items()
    assert len(answer.seen["x-request-id"]) >= 32
    assert LIE not in answer.seen["x-request-id"]


@pytest.mark.parametrize(
    "name",
    [
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-auth-headers-to-remove",
        "x-envoy-original-path",
        "x-envoy-decorator-operation",
    ],
)
def test_envoys_own_headers(proxy: Proxy, customer: Customer, name: str) -> None:
    """Envoy's own header names from a client change nothing, and cause no 5xx."""
    for value in ("0", "1", "x-organization-id", "/public/prices"):
        answer = ask(proxy, headers=[(name, value), *bearer(customer.key).items()])
        assert identity_of(customer).items() <= answer.seen.items(), value


@pytest.mark.parametrize("path", ["/api/v1/customers/42", "/public/prices"])
def test_the_credential_ends_at_the_proxy(proxy: Proxy, customer: Customer, path: str) -> None:
    """A credential is removed, in any spelling of its name; on public routes too."""
    for name in ("Authorization", "authorization", "AUTHORIZATION"):
        answer = ask(proxy, path, {name: f"Bearer {customer.key}"})
        assert "authorization" not in answer.seen
        assert customer.key.encode() not in answer.body


def test_the_credential_may_be_handed_on(site: Site, customer: Customer) -> None:
    """With EXTAUTHZ_STRIP_CREDENTIAL=false Envoy leaves it; in nginx the shipped file's line decides."""
    envoy, nginx = site.stack.proxies
    with site.configured(EXTAUTHZ_STRIP_CREDENTIAL="false"):
        for path in ("/api/v1/customers/42", "/public/prices"):
            assert ask(envoy, path, bearer(customer.key)).seen["authorization"] == f"Bearer {customer.key}"
            assert "authorization" not in ask(nginx, path, bearer(customer.key)).seen
        forged = bearer(customer.key) | {"X-Organization-Id": LIE, "X-Subject": LIE}
        assert identity_of(customer).items() <= ask(envoy, headers=forged).seen.items()
        assert LIE not in str(ask(envoy, "/public/prices", forged).seen)
