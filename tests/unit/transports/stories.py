"""Checks of every kind, each asked several times by a proxy of any family, and the expected decisions."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from extauthz.core.calendar import Calendar
from extauthz.core.failure import OnRedisDown
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.permissions import FULL_ACCESS
from tests.servers.serving import question
from tests.unit.service.fakes import KEY, KEY_FORMAT, OLD_DIGEST, SECRET, TENANT, FakeService

PATH = "/api/customers/7"
PREFIX = "/ext"
PROXIES = ("envoy", "envoy with a prefix", "nginx", "nginx by url", "forward")
Prepare = Callable[[FakeService], Awaitable[None]]


async def as_it_is(fake_service: FakeService) -> None:
    """Changes nothing."""


def stored(key: ApiKey) -> Prepare:
    """Another key under the same secret."""

    async def prepare(fake_service: FakeService) -> None:
        fake_service.keys.held.clear()
        fake_service.store(key)

    return prepare


def limited(limits: Limits, own: Limits | None = None) -> Prepare:
    """An organization with such limits, whose key may do everything and has limits of its `own`."""
    return stored(with_limits(limits, own))


def with_limits(limits: Limits, own: Limits | None = None) -> ApiKey:
    """A key that may do everything within limits."""
    return replace(KEY, permissions=FULL_ACCESS, limits=own or Limits(), tenant=replace(TENANT, limits=limits))


async def without_postgresql(fake_service: FakeService) -> None:
    await fake_service.lose(fake_service.postgresql)


async def without_redis(fake_service: FakeService) -> None:
    await fake_service.lose(fake_service.redis)


def days_off(days: int) -> Prepare:
    """Redis has another day than the worker."""

    async def prepare(fake_service: FakeService) -> None:
        fake_service.limits.now += days * 86_400

    return prepare


def hours_off(hours: int) -> Prepare:
    """Redis has another hour than the worker, and hours are limited."""

    async def prepare(fake_service: FakeService) -> None:
        await limited(Limits(hourly_quota=100))(fake_service)
        fake_service.limits.now += hours * 3600

    return prepare


@dataclass(frozen=True)
class Story:
    """`expected` are the decisions of so many equal checks, of which the first `slow` cannot take the fast path."""

    expected: Sequence[str]
    prepare: Prepare = as_it_is
    path: str = PATH
    key: str | None = SECRET
    method: str = "GET"
    more: bytes = b""
    slow: int = 1
    fake_service: Mapping[str, object] = field(default_factory=dict)

    def asked(self, proxy: str, *, head: bool = False) -> bytes:
        """The request of a proxy; `head`: the same by HEAD, as far as the connection is concerned."""
        data = asked(proxy, self.path, key=self.key, method=self.method, more=self.more)
        return b"HEAD " + data.partition(b" ")[2] if head else data


def listener_of(proxy: str) -> str:
    """Where a proxy asks."""
    return proxy.partition(" ")[0]


def asked(proxy: str, path: str, *, key: str | None = SECRET, method: str = "GET", more: bytes = b"") -> bytes:
    """The request of a proxy."""
    data = question(listener_of(proxy), path, key=key, method=method, more=more)
    if proxy == "nginx by url":
        return data.replace(b"X-Original-URI: ", b"X-Original-URL: https://api.example.com")
    return data.replace(b" /", f" {PREFIX}/".encode(), 1) if proxy == "envoy with a prefix" else data


def _refused_by(reason: str, limits: Limits, own: Limits | None = None, *, after: int = 1) -> Story:
    return Story([*["allow"] * after, *[reason] * (10 - after)], limited(limits, own))


ALLOWED = ["allow"] * 10
FAST, DAY, MONTH = "rate_limited", "daily_quota_exceeded", "monthly_quota_exceeded"
HOUR = "hourly_quota_exceeded"
CREDITS = "credits_exhausted"
ADDRESS = b"X-Forwarded-For: 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n"
REPEATED = b"X-Request-ID: 3f0c9e3d\r\n"
ANYTHING = Limits(Rate(7, 60), 100, 1_000, 20_000)
SHADOW = stored(replace(KEY, tenant=replace(TENANT, shadow=True, limits=Limits(Rate(1, 1), 2, 3))))
STORIES = {
    "allowed": Story(ALLOWED),
    "allowed by an old pepper": Story(ALLOWED, stored(replace(KEY, digest=OLD_DIGEST))),
    "no limits": Story(ALLOWED, limited(Limits())),
    "no limits but a key's": Story(ALLOWED, limited(Limits(), ANYTHING)),
    "limits of both": Story(ALLOWED, limited(Limits(Rate(1, 3), 50, 900, 9_000), ANYTHING)),
    "a cost": Story(["allow"] * 6 + [FAST] * 4, limited(ANYTHING), "/api/reports/1"),
    "another calendar": Story(
        ALLOWED, stored(replace(KEY, tenant=replace(TENANT, limits=ANYTHING, calendar=Calendar("Asia/Tokyo", 31))))
    ),
    "a day behind": Story(ALLOWED, days_off(-1)),
    "a day ahead": Story(ALLOWED, days_off(1)),
    "a week ahead": Story(ALLOWED, days_off(7)),
    "writing": Story(ALLOWED, limited(ANYTHING), method="DELETE"),
    "shadow of a route": Story(ALLOWED, limited(Limits(Rate(1, 1), 1, 3)), "/api/beta/1"),
    "shadow of a route, never": Story(ALLOWED, limited(Limits(daily_quota=0)), "/api/beta/1", slow=10),
    "shadow of an organization": Story(ALLOWED, SHADOW),
    "public": Story(ALLOWED, path="/public/x", key=None, slow=0),
    "public with a key": Story(ALLOWED, path="/public/x", slow=0),
    "address": Story(["allow"] * 2 + [FAST] * 8, path="/public/search", key=None, more=ADDRESS, slow=0),
    "address, without Redis": Story(ALLOWED, without_redis, "/public/search", more=ADDRESS, slow=0),
    "no credentials": Story(["no_credentials"] * 10, key=None, slow=0),
    "malformed": Story(["malformed_credentials"] * 10, key="a b", slow=0),
    "wrong check characters": Story(["invalid_credentials"] * 10, key=SECRET[:-1] + "-", slow=0),
    "unknown": Story(["invalid_credentials"] * 10, key=KEY_FORMAT.issue(bytes(20)), slow=10),
    "revoked": Story(["invalid_credentials"] * 10, stored(replace(KEY, revoked_at=1.0)), slow=10),
    "suspended": Story(
        ["organization_suspended"] * 10, stored(replace(KEY, tenant=replace(TENANT, status="suspended")))
    ),
    "not permitted": Story(["permission_denied"] * 10, method="POST"),
    "no route": Story(["route_not_allowed"] * 10, path="/elsewhere", slow=0),
    "ambiguous": Story(["path_ambiguous"] * 10, path="/api//7", slow=0),
    "too dear": Story(["cost_exceeds_limit"] * 10, limited(Limits(Rate(1, 1), 5)), "/api/reports/1"),
    "no quota": Story(["cost_exceeds_limit"] * 10, limited(Limits(monthly_quota=0))),
    "burst": _refused_by(FAST, Limits(Rate(1, 7), 2), after=2),
    "day": _refused_by(DAY, Limits(daily_quota=1)),
    "month": _refused_by(MONTH, Limits(Rate(5, 1), 5, 9, 1)),
    "hour": _refused_by(HOUR, Limits(Rate(5, 1), 5, 9, 9, 2), after=2),
    "key's hour": _refused_by(HOUR, ANYTHING, Limits(hourly_quota=3), after=3),
    "credits": _refused_by(CREDITS, Limits(credits=3), after=3),
    "key's credits": _refused_by(CREDITS, ANYTHING, Limits(credits=2), after=2),
    "credits that bind late": Story(ALLOWED, limited(Limits(Rate(1, 864_000), 11, credits=12), Limits(credits=1_000))),
    "credits that bind at first": Story(ALLOWED, limited(Limits(Rate(1, 1), 50, 60, credits=10))),
    "credits and burst": _refused_by(CREDITS, Limits(Rate(1, 864_000), 2, credits=2), after=2),
    "no credits": _refused_by(CREDITS, Limits(credits=0), after=0),
    "an hour behind": Story(ALLOWED, hours_off(-1)),
    "an hour ahead": Story(ALLOWED, hours_off(1)),
    "key's burst": _refused_by(FAST, ANYTHING, Limits(Rate(1, 864_000), 1)),
    "key's day": _refused_by(DAY, Limits(), Limits(daily_quota=3), after=3),
    "key's month": _refused_by(MONTH, ANYTHING, Limits(Rate(9, 1), 9, 50, 4), after=4),
    "several": _refused_by(MONTH, Limits(Rate(1, 1), 2, 2, 2), after=2),
    "all of them": _refused_by(MONTH, Limits(Rate(1, 864_000), 2, 2, 2), Limits(Rate(1, 1), 2, 2, 2), after=2),
    "not cached": Story(ALLOWED, path="/api/vault/1", slow=10),
    "charged once": Story(
        ["allow"] * 7 + [FAST] * 3, limited(Limits(Rate(1, 1), 5)), more=REPEATED, fake_service={"charge_once": True}
    ),
    "charged each time": Story(
        ["allow"] * 5 + [FAST] * 5, limited(Limits(Rate(1, 1), 5)), fake_service={"charge_once": True}
    ),
    "no PostgreSQL": Story(["authentication_unavailable"] * 10, without_postgresql, slow=10),
    "no Redis": Story(ALLOWED, without_redis),
    "no Redis, shadow": Story(ALLOWED, without_redis, "/api/beta/1"),
    "closed": Story(["limits_unavailable"] * 10, without_redis, fake_service={"on_redis_down": OnRedisDown.CLOSED}),
}
