"""What the shipped files write into the proxies' access logs, and do not send to the client."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from extauthz.demo.stack import Proxy
from tests.e2e.client import Answer, ask, bearer
from tests.e2e.edges import front
from tests.e2e.site import Customer, Site, issue
from tests.servers.edges import FILES
from tests.servers.raw_upstream import raw_upstream
from tests.servers.waiting import eventually

OF_THE_LOG = {"x-extauthz-organization", "x-extauthz-key"}


def lines(log: Path) -> Iterator[dict[str, Any]]:
    """The requests in an access log."""
    for line in log.read_text("utf-8").splitlines():
        if line.startswith("{"):
            yield json.loads(line)


class Log:
    """The access log of a proxy of the site."""

    def __init__(self, site: Site, proxy: Proxy) -> None:
        folder = site.stack.folder / proxy.name
        self._file = folder / ("access.log" if proxy.name == "nginx" else "envoy.log")

    def of(self, path: str) -> dict[str, Any]:
        """The one request for `path`; empty values are those that are not known."""
        eventually(lambda: any(line["path"] == path for line in lines(self._file)))
        (line,) = [line for line in lines(self._file) if line["path"] == path]
        return {name: value or None for name, value in line.items()}

    def holds(self, text: str) -> bool:
        return text in self._file.read_text("utf-8")


def test_the_log_has_identity_and_decision(site: Site, proxy: Proxy, reader: Customer, customer: Customer) -> None:
    """Allowed, and refused by permission: with organization and key. Refused credentials: with the decision alone."""
    log = Log(site, proxy)
    whose: dict[str, str | None] = {"organization_id": reader.organization, "api_key_id": reader.key_id}
    nobody: dict[str, str | None] = {"organization_id": None, "api_key_id": None}
    asked: list[tuple[str, str, str | None, int, dict[str, str | None]]] = [
        ("customers", "GET", reader.key, 200, whose | {"decision": "allow", "code": None}),
        (
            "customers",
            "POST",
            reader.key,
            403,
            whose | {"decision": "permission_denied", "code": "write_action_not_allowed_for_customer"},
        ),
        ("customers", "GET", None, 401, nobody | {"decision": "no_credentials", "code": "no_credentials"}),
        ("customers", "GET", issue(), 401, nobody | {"decision": "invalid_credentials", "code": "invalid_credentials"}),
    ]
    for resource, method, key, status, expected in asked:
        path = f"/api/v1/{resource}/{uuid4()}"
        answer = ask(proxy, f"{path}?secret=1", bearer(key) if key else (), method=method)
        assert answer.status == status
        assert not answer.names & OF_THE_LOG
        line = log.of(path)
        assert line.items() >= expected.items()
        assert (line["method"], line["status"]) == (method, status)
        assert line["request_id"]
    assert not log.holds("secret=1")


def test_a_limit_that_refuses_is_in_the_log(site: Site, proxy: Proxy) -> None:
    """With the status that the client saw."""
    customer = site.customer(rate="1/h", burst=1)
    log = Log(site, proxy)
    refused: list[tuple[str, Answer]] = []
    for _ in range(2):
        path = f"/api/v1/customers/{uuid4()}"
        refused.append((path, ask(proxy, path, bearer(customer.key))))
    path, answer = refused[-1]
    assert answer.status == 429
    assert not answer.names & OF_THE_LOG
    line = log.of(path)
    assert (line["status"], line["decision"]) == (429, "rate_limited")
    assert (line["organization_id"], line["api_key_id"]) == (customer.organization, customer.key_id)


def test_a_client_cannot_forge_the_log(site: Site, proxy: Proxy) -> None:
    """Its own headers of these names do not count, and neither do quotes in its path."""
    log = Log(site, proxy)
    path = f"/api/v1/customers/{uuid4()}"
    forged = {"x-extauthz-organization": "forged", "x-extauthz-key": "forged", "x-extauthz-decision": "allow"}
    assert ask(proxy, path, forged).status == 401
    assert log.of(path)["organization_id"] is None
    quoted = f"/api/v1/customers/{uuid4()}%22a"
    ask(proxy, quoted)
    assert log.of(quoted)["decision"] == "no_credentials"
    assert not log.holds("forged")


def test_the_log_of_haproxy(site: Site, reader: Customer) -> None:
    """With the lines of its page."""
    page = (FILES / "haproxy/README.md").read_text("utf-8")
    (lines,) = re.findall(r"```haproxy\n(  log .*?)```", page, re.DOTALL)
    frontend = "    bind 127.0.0.1:8082\n"
    with (
        raw_upstream() as upstream,
        front(
            "haproxy",
            site.stack.ports,
            upstream,
            change=lambda text: text.replace(frontend, frontend + lines),
        ) as edge,
    ):
        path = f"/api/v1/customers/{uuid4()}"
        for method, status, decision in (("GET", 200, "allow"), ("POST", 403, "permission_denied")):
            assert ask(edge.proxy, f"{path}?secret=1", bearer(reader.key), method=method).status == status
            line = f"127.0.0.1 {method} {path} {status} {decision} {reader.organization} {reader.key_id}\n"
            eventually(lambda line=line: line in edge.process.log.read_text("utf-8"))  # type: ignore[misc]
