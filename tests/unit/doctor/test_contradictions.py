"""Contradictory settings fail, unusual ones are a remark."""

import pytest

from extauthz.config import load
from extauthz.core.errors import ConfigError
from extauthz.doctor.contradictions import contradictions
from extauthz.doctor.finding import Finding

PLAIN = {
    "DATABASE_URL": "postgresql://app@127.0.0.1/app",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "EXTAUTHZ_KEY_PEPPER": "p1:pepper one of the tests of extauthz",
    "EXTAUTHZ_ADMIN_TOKEN": "ops:token-of-the-tests-of-extauthz-0123456789",
}
CHECKS_OFF = {f"EXTAUTHZ_{name}_LISTEN": "off" for name in ("ENVOY", "NGINX", "FORWARD")}


def found(**environment: str) -> list[Finding]:
    """The findings, on a machine with two processors."""
    environ = PLAIN | environment
    mistakes: tuple[str, ...] = ()
    try:
        load(environ, None)
    except ConfigError as error:
        mistakes = error.mistakes
    return contradictions(load(environ, None, serves=False), mistakes, cores=2)


def test_settings_that_fit_together() -> None:
    """One row confirms it, and there is no remark."""
    assert found(EXTAUTHZ_WORKERS="2") == [Finding("settings", True, "no settings contradict each other")]


@pytest.mark.parametrize(
    ("check", "environment", "says"),
    [
        ("settings", {"EXTAUTHZ_DEADLINE_MS": "50"}, "EXTAUTHZ_DATABASE_TIMEOUT_MS"),
        ("settings", {"EXTAUTHZ_WEBHOOK_URL": "http://127.0.0.1:1/x"}, "EXTAUTHZ_WEBHOOK_SECRET"),
        ("settings", {"EXTAUTHZ_NGINX_LISTEN": "127.0.0.1:9001"}, "EXTAUTHZ_NGINX_LISTEN"),
        ("settings listeners", CHECKS_OFF, "all are off"),
    ],
)
def test_contradictions(check: str, environment: dict[str, str], says: str) -> None:
    """Each fails a check of its own, with advice, and is not reported as fine."""
    (failed,) = [finding for finding in found(**environment) if not finding.ok]
    assert failed.check == check
    assert says in failed.detail
    assert failed.remedy


@pytest.mark.parametrize(
    ("check", "environment", "says"),
    [
        ("settings timeouts", {"EXTAUTHZ_DEADLINE_MS": "100"}, "125 ms together"),
        ("settings caches", {"API_KEY_CACHE_ENABLED": "false"}, "each check asks PostgreSQL"),
        ("settings workers", {"EXTAUTHZ_WORKERS": "4"}, "4 workers share 2 processors"),
        ("settings listeners", {"EXTAUTHZ_ENVOY_PATH_PREFIX": "/x", "EXTAUTHZ_ENVOY_LISTEN": "off"}, "PATH_PREFIX has"),
        ("settings listeners", {"EXTAUTHZ_NGINX_QUESTION": "url", "EXTAUTHZ_NGINX_LISTEN": "off"}, "QUESTION has"),
        ("settings admin", {"EXTAUTHZ_ADMIN_LISTEN": "off"}, "no health"),
        ("settings admin", {"EXTAUTHZ_ADMIN_LISTEN": "0.0.0.0:9000"}, "0.0.0.0:9000"),
        ("settings admin", {"EXTAUTHZ_ADMIN_LISTEN": "extauthz.internal:9000"}, "open to that network"),
        ("settings admin", {"EXTAUTHZ_ADMIN_TOKEN": ""}, "no token"),
    ],
)
def test_remarks(check: str, environment: dict[str, str], says: str) -> None:
    """Each passes, with advice."""
    first, remark = found(**environment)
    assert first == Finding("settings", True, "no settings contradict each other")
    assert (remark.check, remark.ok) == (check, True)
    assert says in remark.detail
    assert remark.remedy


@pytest.mark.parametrize("name", ["API_KEY_CACHE_TTL", "API_KEY_STALE_IF_ERROR"])
def test_settings_of_a_cache_that_is_off(name: str) -> None:
    details = [finding.detail for finding in found(API_KEY_CACHE_ENABLED="false", **{name: "60"})]
    assert f"{name} has no effect while the cache of keys is off" in details


@pytest.mark.parametrize("address", ["127.0.0.1:9000", "[::1]:9000", "localhost:9000", "unix:/run/extauthz/admin"])
def test_a_private_listener_that_is_private(address: str) -> None:
    assert len(found(EXTAUTHZ_ADMIN_LISTEN=address)) == 1
