"""Redis: whether it can be reached, is the one that takes writes, keeps what it is given, and runs our scripts."""

import re

from extauthz.app.management import trials
from extauthz.backends.redis.inspection import RedisReport, inspect, try_writes
from extauthz.config import Settings
from extauthz.core.errors import StoreUnavailable
from extauthz.doctor.finding import ANSWER_TIMEOUT_SECONDS, Finding, address, away, clock

REACHABLE = "redis reachable"
OLDEST = {"Redis": (7, 0), "Valkey": (7, 2)}  # that is tried
_INFO = "grant it: ACL SETUSER … +info"


async def redis(settings: Settings) -> list[Finding]:
    """What is to say of REDIS_URL."""
    url, where = settings.redis_url.get_secret_value(), address(settings, "REDIS_URL")
    try:
        report = await inspect(url, patience=ANSWER_TIMEOUT_SECONDS)
    except StoreUnavailable as error:
        return [away(REACHABLE, where, error, "REDIS_URL")]
    findings = [Finding(REACHABLE, True, f"{report.product} {report.version}".rstrip() + f" at {where}")]
    if report.told:
        findings += [_version(report), _primary(report), _policy(report), _persistence(report)]
    else:
        detail = "the user may not ask INFO: version, policy and lost memory cannot be seen"
        findings.append(Finding("redis version", True, detail, _INFO))
    findings.append(await _scripts(settings, url))
    if report.ahead is not None:
        findings.append(clock("redis clock", "Redis", report.ahead, report.doubt))
    return findings


def _version(report: RedisReport) -> Finding:
    found = re.match(r"(\d+)\.(\d+)", report.version)
    oldest = OLDEST[report.product]
    if found and (int(found[1]), int(found[2])) < oldest:
        needed = ".".join(map(str, oldest))
        return Finding("redis version", True, f"{report.version} is not tried", f"upgrade it to {needed} or newer")
    return Finding("redis version", True, f"{report.product} {report.version}")


def _primary(report: RedisReport) -> Finding:
    check = "redis primary"
    if report.replica:
        return Finding(
            check, False, "the server is a replica: what is written to it is lost", "point REDIS_URL at the master"
        )
    return Finding(check, True, "the server follows no other")


def _policy(report: RedisReport) -> Finding:
    check = "redis policy"
    if report.policy in ("noeviction", ""):
        return Finding(check, True, "nothing is thrown away when memory is short")
    detail = f"maxmemory-policy {report.policy}: counters may be thrown away when memory is short"
    return Finding(check, False, detail, "CONFIG SET maxmemory-policy noeviction, and the same in its configuration")


def _persistence(report: RedisReport) -> Finding:
    check = "redis persistence"
    if report.persistent is False:
        detail = "a restart loses counters; they are restored from PostgreSQL, except those of the last seconds"
        return Finding(check, True, detail, "to keep them: appendonly yes")
    return Finding(check, True, "counters survive a restart" if report.persistent else "the server does not say")


async def _scripts(settings: Settings, url: str) -> Finding:
    check = "redis scripts"
    try:
        await try_writes(url, trials(settings), patience=ANSWER_TIMEOUT_SECONDS)
    except StoreUnavailable as error:
        return away(check, "what checks do is refused", error, "REDIS_URL")
    return Finding(check, True, "the scripts and commands of checks are allowed")
