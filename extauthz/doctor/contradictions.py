"""Settings that contradict each other, or that are rarely meant."""

import os
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from extauthz.app.listeners import addresses_of, dialect_names
from extauthz.config import Listen, Settings
from extauthz.doctor.finding import Finding


def contradictions(settings: Settings, mistakes: Sequence[str], *, cores: int | None = None) -> list[Finding]:
    """`mistakes` are lines about what would stop `serve`; `cores` the processors that it may use, None: ours."""
    found = [
        *(Finding("settings", False, mistake, "extauthz check-config names each setting") for mistake in mistakes),
        *(Finding("settings", True, note.partition(": chmod")[0], _helps(note)) for note in settings.notes),
        *_listens(settings),
        *_budgets(settings, mistakes),
        *_caches(settings),
        *_admin(settings),
        *_workers(settings, cores or len(os.sched_getaffinity(0))),
    ]
    if any(not finding.ok for finding in found):
        return found
    return [Finding("settings", True, "no settings contradict each other"), *found]


def _helps(note: str) -> str:
    return "chmod o-r" if "chmod o-r" in note else "leave it out until it has an effect"


def _listens(settings: Settings) -> Iterator[Finding]:
    check = "settings listeners"
    on = addresses_of(settings)
    if not set(dialect_names()) & on.keys():
        names = " or ".join(f"EXTAUTHZ_{name.upper()}_LISTEN" for name in dialect_names())
        yield Finding(check, False, "no listener answers checks: all are off", f"give {names} an address")
    of_listeners = {"EXTAUTHZ_ENVOY_PATH_PREFIX": "envoy", "EXTAUTHZ_NGINX_QUESTION": "nginx"}
    for name, listener in of_listeners.items():
        if name in settings.sources and listener not in on:
            other = f"EXTAUTHZ_{listener.upper()}_LISTEN"
            yield Finding(check, True, f"{name} has no effect: {other} is off", f"remove it, or set {other}")


def _budgets(settings: Settings, mistakes: Sequence[str]) -> Iterator[Finding]:
    needed = settings.redis_timeout_ms + settings.database_timeout_ms
    if needed > settings.deadline_ms and not mistakes:
        detail = (
            f"the timeouts of Redis and PostgreSQL are {needed} ms together, the deadline of a check is"
            f" {settings.deadline_ms} ms: a check that needs both is cut short"
        )
        yield Finding("settings timeouts", True, detail, "raise EXTAUTHZ_DEADLINE_MS, and the proxy's timeout above it")


def _caches(settings: Settings) -> Iterator[Finding]:
    check = "settings caches"
    if not settings.api_key_cache_enabled:
        detail = "the cache of keys is off: each check asks PostgreSQL, and fails while that is away"
        yield Finding(check, True, detail, "set API_KEY_CACHE_ENABLED=true, and cache = false on single routes")
        for name in ("API_KEY_CACHE_TTL", "API_KEY_STALE_IF_ERROR"):
            if name in settings.sources:
                yield Finding(check, True, f"{name} has no effect while the cache of keys is off", "remove it")


def _admin(settings: Settings) -> Iterator[Finding]:
    check = "settings admin"
    if settings.admin_listen is None:
        yield Finding(check, True, "no health and no metrics: the private listener is off", "set EXTAUTHZ_ADMIN_LISTEN")
    elif not settings.admin_token:
        helps = "set EXTAUTHZ_ADMIN_TOKEN to name:value; openssl rand -hex 32 makes a value"
        yield Finding(check, True, "the REST API refuses every call: it has no token", helps)
    elif not _is_private(settings.admin_listen):
        detail = f"the private listener is at {settings.admin_listen}: health and metrics are open to that network"
        yield Finding(check, True, detail, "see that only operators and Prometheus can reach it")


def _is_private(at: Listen) -> bool:
    if at.path is not None or at.host == "localhost":
        return True
    try:
        return ip_address(at.host.strip("[]")).is_loopback
    except ValueError:
        return False


def _workers(settings: Settings, cores: int) -> Iterator[Finding]:
    if settings.workers > cores:
        detail = f"{settings.workers} workers share {cores} processor{'s' * (cores > 1)}"
        yield Finding("settings workers", True, detail, f"EXTAUTHZ_WORKERS={cores} at most is of use")
