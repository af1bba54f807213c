"""What a location in front of an upstream must do: a check, and no header of the client in place of extauthz's."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.e2e.client import ask, bearer
from tests.e2e.nginx_blocks import Running
from tests.e2e.site import Customer, Site
from tests.servers.upstreams import Seen
from tests.servers.waiting import eventually

LIE = "lie-77f0"
PATH = "/api/v1/customers/42"
IDENTITY = ("X-Organization-Id", "X-Api-Key-Id", "X-Subject", "X-Permissions", "X-Plan")
UNDERSCORES = (
    *("X_Organization_Id", "X-Organization_Id", "x_organization-id", "X_Api_Key_Id", "X-Api_Key-Id"),
    *("X_Subject", "X_PERMISSIONS", "X_Plan", "X_Extauthz_Code", "X-Extauthz_Decision"),
)
REMOVED = (
    *(f"X-Extauthz-{name}" for name in ("Code", "Decision", "Degraded", "Key", "Organization", "Status", "Violated")),
    *("Forwarded", "X-Forwarded-User", "X-Forwarded-Client-Cert", "X-Forwarded-Prefix", "X-Original-URL"),
    *("X-Rewrite-URL", "X-Envoy-Auth-Failure-Mode-Allowed"),
)
OVERWRITTEN = (
    "X-Real-IP",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Request-ID",
)
UNDERSCORES_PASS = {"underscores_in_headers off": "underscores_in_headers on"}
FORGED = [(name, LIE) for name in (*IDENTITY, *UNDERSCORES, *REMOVED, *OVERWRITTEN)]


class Unprotected(AssertionError):
    """A location does not ask, or passes on what it must remove."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A request that tests a block. `reaches`: how many upstreams get it; `public`: it needs no key."""

    path: str = PATH
    headers: Mapping[str, str] = field(default_factory=dict)
    reaches: int = 1
    public: bool = False


def check_seen(seen: Seen, customer: Customer, probe: Probe) -> None:
    """An upstream sees the identity that extauthz sent, no header of the client in its place, and no credential."""
    said = ("X-Organization-Id", customer.organization), ("X-Api-Key-Id", customer.key_id), ("X-Plan", customer.plan)
    expected = {name: [] if probe.public else [value] for name, value in said}
    expected |= {"X-Subject": [], "Authorization": [], "X-Real-IP": ["127.0.0.1"], "X-Forwarded-For": ["127.0.0.1"]}
    expected |= {"X-Forwarded-Proto": ["http"], "X-Forwarded-Host": ["api.example.com"]}
    wrong = {name: seen.values(name) for name, values in expected.items() if seen.values(name) != values}
    if wrong or LIE in seen.text() or customer.key in seen.text():
        raise Unprotected(f"the upstream saw {wrong or seen}")
    assert len(seen.values("X-Permissions")) == (0 if probe.public else 1)
    assert len(seen.values("X-Request-ID")[0]) == 32


def judge(site: Site, nginx: Running, number: int, customer: Customer, probe: Probe) -> None:
    """Without a key no upstream is reached; with one, once charged, each upstream sees the right identity."""
    proxy, behind = nginx.proxy(number), nginx.behind
    behind.seen.clear()
    if not probe.public:
        answer = ask(proxy, probe.path, [*probe.headers.items(), *FORGED])
        if (answer.status, answer.decision) != (401, "no_credentials") or behind.seen:
            raise Unprotected(f"without a key: {answer}")
    before = site.decisions()
    answer = ask(proxy, probe.path, [*probe.headers.items(), *FORGED, *bearer(customer.key).items()])
    assert answer.status == 200, answer
    eventually(lambda: len(behind.seen) == probe.reaches)
    for seen in behind.seen:
        check_seen(seen, customer, probe)
    assert answer.decision == (None if probe.public else "allow")
    assert site.decisions() - before == (0 if probe.public else 1)
