"""The requests of `make monitor`: of many customers and with every refusal, a mix that is sent continuously."""

import http.client
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Self

from extauthz.demo.customers import NEARLY_USED, Customers
from extauthz.demo.stack import Proxy
from extauthz.demo.tour import Reply, Stop, send

REQUEST_INTERVAL_SECONDS = 0.05  # between two requests
NEAR = NEARLY_USED // 12  # what is left of a quota that is near its end
CUSTOMER = "/api/v1/customers/42"
NOTHING_ASKED = ""  # the path of a question in which a proxy does not say what is asked
DAILY = re.compile(r'"daily";r=(\d+);t=(\d+)')


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind: so many of a hundred; after a reply they may rest, for the seconds that `rests` says."""

    stop: Stop
    share: int
    rests: Callable[[Reply], int] = lambda _: 0


def kinds(customers: Customers) -> list[Kind]:
    """All kinds, a hundred requests together."""

    def kind(share: int, decision: str, key: str = "", *, method: str = "GET", path: str = CUSTOMER) -> Kind:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return Kind(Stop(decision, (), decision, method, path, headers), share)

    near_its_quota = kind(8, "allow", customers.near_its_quota)
    return [
        kind(28, "allow", customers.allowed),
        kind(6, "allow", customers.allowed, method="POST", path="/api/v1/invoices"),
        kind(10, "allow", customers.also_allowed, path="/api/v1/invoices/7"),
        kind(6, "allow", customers.reads_only),
        kind(6, "allow", path="/public/prices"),
        Kind(near_its_quota.stop, near_its_quota.share, until_the_day_is_over),
        kind(9, "rate_limited", customers.too_fast),
        kind(5, "daily_quota_exceeded", customers.over_its_day),
        kind(4, "monthly_quota_exceeded", customers.over_its_month),
        kind(3, "permission_denied", customers.reads_only, method="DELETE"),
        kind(2, "organization_suspended", customers.suspended),
        kind(2, "cost_exceeds_limit", customers.over_its_day, path="/api/v1/reports/7"),
        kind(3, "no_credentials"),
        kind(1, "malformed_credentials", "two words"),
        kind(2, "invalid_credentials", customers.unknown),
        kind(1, "invalid_credentials", customers.revoked),
        kind(1, "invalid_credentials", customers.expired),
        kind(1, "route_not_allowed", customers.allowed, path="/internal/health"),
        kind(1, "path_ambiguous", customers.allowed, path="/api/v1/customers/%2e%2e/internal"),
        kind(1, "bad_proxy_request", path=NOTHING_ASKED),
    ]


def until_the_day_is_over(reply: Reply) -> int:
    """The seconds until the next daily quota, once little of it is left."""
    daily = DAILY.search(reply.headers.get("ratelimit", ""))
    return int(daily[2]) if daily and int(daily[1]) <= NEAR else 0


def mixed(all_kinds: list[Kind]) -> list[Kind]:
    """Each kind as often as its share says, spread evenly over the round."""
    total = sum(kind.share for kind in all_kinds)
    credit = [0] * len(all_kinds)
    order = []
    for _ in range(total):
        credit = [have + kind.share for have, kind in zip(credit, all_kinds, strict=True)]
        chosen = max(range(len(credit)), key=credit.__getitem__)
        credit[chosen] -= total
        order.append(all_kinds[chosen])
    return order


class Traffic:
    """Sends requests in a thread of its own from `with` to its end; `seen` counts the decisions that came back."""

    def __init__(self, customers: Customers, proxies: tuple[Proxy, ...], forward: Proxy) -> None:
        """`forward` is the listener itself, asked as a proxy would ask it."""
        self.kinds = kinds(customers)
        self.seen: Counter[str] = Counter()
        self._forward = forward
        self._ways = (*proxies, forward)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()

    def _run(self) -> None:
        resting: dict[int, float] = {}
        turns = zip(cycle(mixed(self.kinds)), cycle(self._ways), strict=False)  # endless
        for kind, way in turns:
            if self._leaving.wait(REQUEST_INTERVAL_SECONDS):
                return
            if resting.get(id(kind), 0.0) > time.monotonic():
                continue
            # A proxy that is stopped meanwhile is a thing to see in the dashboards, and no end of the traffic.
            with suppress(OSError, http.client.HTTPException):
                reply = self._send(kind.stop, way)
                self.seen[reply.decision] += 1
                resting[id(kind)] = time.monotonic() + kind.rests(reply)

    def _send(self, stop: Stop, way: Proxy) -> Reply:
        if stop.path == NOTHING_ASKED:
            return send(self._forward, replace(stop, path="/"))
        if way is not self._forward:
            return send(way, stop)
        asked = {"X-Forwarded-Method": stop.method, "X-Forwarded-Uri": stop.path, "X-Forwarded-Host": "api.example.com"}
        return send(way, replace(stop, method="GET", path="/", headers={**stop.headers, **asked}))
