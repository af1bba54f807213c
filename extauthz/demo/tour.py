"""The tour: requests that real clients send, through both proxies, and what each of them must get."""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from extauthz.demo.management_client import PLANS, Keys
from extauthz.demo.stack import Proxy

FORGED = "somebody-else"
ATTEMPTS_MAX = 50  # requests until a limit must have refused


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got: `microseconds` from the first byte sent to the last one read."""

    status: int
    headers: Mapping[str, str]
    body: Any
    microseconds: int

    @property
    def decision(self) -> str:
        """The decision as the proxy handed it on."""
        return self.headers.get("x-extauthz-decision", "-")

    @property
    def seen(self) -> Mapping[str, str]:
        """The headers that the upstream saw; none where the request did not get there."""
        return self.body.get("headers", {}) if isinstance(self.body, dict) else {}


@dataclass(frozen=True, slots=True)
class Stop:
    """One request of the tour. `until_refused`: it is sent until a limit refuses."""

    title: str
    statuses: tuple[int, ...]
    decision: str
    method: str = "GET"
    path: str = "/api/v1/customers/42"
    headers: Mapping[str, str] = field(default_factory=dict)
    until_refused: bool = False
    check: Callable[[Reply], bool] = lambda _: True

    @property
    def expectation(self) -> str:
        """In words."""
        return f"{' or '.join(map(str, self.statuses))} {self.decision}"


@dataclass(frozen=True, slots=True)
class Visit:
    """What became of a stop at one proxy."""

    stop: Stop
    proxy: Proxy
    reply: Reply
    sent: int

    @property
    def as_expected(self) -> bool:
        """Whether status, decision and everything else were right."""
        stop, reply = self.stop, self.reply
        return reply.status in stop.statuses and reply.decision == stop.decision and stop.check(reply)

    @property
    def why(self) -> str:
        """In words, from the answer itself."""
        reply, seen = self.reply, self.reply.seen
        if "limits" in (reply.body or {}):
            return ", ".join(
                f"{limit['name']} {limit['remaining']} of {limit['limit']}"
                for limit in reply.body["limits"]
                if limit["limit"] is not None
            )
        if seen:
            return f"{seen.get('x-permissions', '')}, plan {seen['x-plan']}" if "x-plan" in seen else "public route"
        if reply.status == 429:
            return f"request {self.sent}, Retry-After: {reply.headers['retry-after']}"
        if "access-control-allow-origin" in reply.headers and reply.decision == "-":
            return "answered by the proxy"
        if reply.status == 401:
            return reply.headers.get("www-authenticate", "").removeprefix('Bearer realm="api", ')
        return reply.body.get("code", "") if isinstance(reply.body, dict) else ""


def stops(keys: Keys) -> list[Stop]:
    """All stops. Those that use up a limit come late, then what their owner is told of it."""

    def bearer(key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def reached_as(organization: str) -> Callable[[Reply], bool]:
        return lambda reply: reply.seen.get("x-organization-id") == organization and "authorization" not in reply.seen

    def open_to_all(reply: Reply) -> bool:
        return bool(reply.seen) and not {"x-organization-id", "authorization"} & reply.seen.keys()

    def refused_with(code: str) -> Callable[[Reply], bool]:
        return lambda reply: reply.body["code"] == code

    def wait_named(reply: Reply) -> bool:
        return int(reply.headers["retry-after"]) > 0 and "ratelimit" in reply.headers

    def day_is_over(reply: Reply) -> bool:
        left = {limit["name"]: limit["remaining"] for limit in reply.body["limits"]}
        return bool(reply.body["organization_id"] == keys.trial_id and left["daily"] == 0)

    preflight = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"}
    forged = {"X-Organization-Id": FORGED}
    return [
        Stop("allowed", (200,), "allow", headers=bearer(keys.reader), check=reached_as(keys.team_id)),
        Stop(
            "allowed, forged identity",
            (200,),
            "allow",
            headers=bearer(keys.reader) | forged,
            check=reached_as(keys.team_id),
        ),
        Stop("public route, no key", (200,), "allow", path="/public/prices", headers=forged, check=open_to_all),
        Stop("browser's preflight", (200, 204), "-", method="OPTIONS", headers=preflight),
        Stop("no key", (401,), "no_credentials", check=refused_with("no_credentials")),
        Stop("unknown key", (401,), "invalid_credentials", headers=bearer(keys.unknown)),
        Stop("expired key", (401,), "invalid_credentials", headers=bearer(keys.expired)),
        Stop("revoked key", (401,), "invalid_credentials", headers=bearer(keys.revoked)),
        Stop(
            "permission missing",
            (403,),
            "permission_denied",
            method="POST",
            path="/api/v1/invoices",
            headers=bearer(keys.reader),
            check=refused_with("write_action_not_allowed_for_invoice"),
        ),
        Stop("burst exceeded", (429,), "rate_limited", headers=bearer(keys.team), until_refused=True, check=wait_named),
        Stop(
            "daily quota exceeded",
            (429,),
            "daily_quota_exceeded",
            headers=bearer(keys.trial),
            until_refused=True,
            check=wait_named,
        ),
        Stop("own usage, with the same key", (200,), "-", path="/usage", headers=bearer(keys.trial), check=day_is_over),
    ]


def visits(all_stops: list[Stop], proxies: tuple[Proxy, ...]) -> Iterator[Visit]:
    """Every stop at every proxy, in order."""
    for stop in all_stops:
        for proxy in proxies:
            replies = [send(proxy, stop)]
            while stop.until_refused and replies[-1].status == 200 and len(replies) < ATTEMPTS_MAX:
                replies.append(send(proxy, stop))
            yield Visit(stop, proxy, replies[-1], len(replies))


def send(proxy: Proxy, stop: Stop) -> Reply:
    """One request on a connection of its own, connected before the clock starts."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    try:
        connection.connect()
        started = time.perf_counter()
        connection.request(stop.method, stop.path, headers=dict(stop.headers))
        response = connection.getresponse()
        body = response.read()
        microseconds = round((time.perf_counter() - started) * 1e6)
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    parsed = json.loads(body) if "json" in headers.get("content-type", "") else None
    return Reply(response.status, headers, parsed, microseconds)


def curl_lines(proxies: tuple[Proxy, ...]) -> list[str]:
    """Lines to paste while the demo stays up; `$KEY` is set by its `env` file."""
    return [
        f'curl -i http://{proxy.address}{path} -H "Authorization: Bearer $KEY"'
        for path in ("/api/v1/customers/42", "/usage")
        for proxy in proxies
    ] + [f"curl -i http://{proxy.address}/api/v1/customers/42  # no key" for proxy in proxies]


def limits_of(plan: str) -> str:
    """A plan of the demo in words."""
    limits = PLANS[plan]
    return f"{limits['rate']}, burst {limits['burst']}, {limits['daily_quota']} a day"
