"""All checks side by side, each with an end."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from extauthz.config import Settings
from extauthz.core.errors import ExtauthzError
from extauthz.doctor.contradictions import contradictions
from extauthz.doctor.database import database, messages
from extauthz.doctor.finding import Finding
from extauthz.doctor.listeners import listeners
from extauthz.doctor.redis import redis

GROUP_TIMEOUT_SECONDS = 15.0  # for one group of checks


class Unwell(ExtauthzError):
    """At least one check failed."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        failed = [finding.check for finding in findings if not finding.ok]
        super().__init__(f"{len(failed)} of {len(findings)} checks failed: {', '.join(dict.fromkeys(failed))}")


async def examine(
    settings: Settings, mistakes: Sequence[str], proxied: Coroutine[Any, Any, list[Finding]] | None = None
) -> list[Finding]:
    """Every finding, in the order in which one thing stands on another. `proxied`: what a proxy makes of questions."""
    groups: dict[str, Coroutine[Any, Any, list[Finding]]] = {
        "database": database(settings),
        "database messages": messages(settings),
        "redis": redis(settings),
        "listeners": listeners(settings),
    }
    if proxied is not None:
        groups["proxy"] = proxied
    found = await asyncio.gather(*(within(GROUP_TIMEOUT_SECONDS, check, group) for check, group in groups.items()))
    return [*contradictions(settings, mistakes), *(finding for group in found for finding in group)]


async def within(seconds: float, check: str, group: Coroutine[Any, Any, list[Finding]]) -> list[Finding]:
    """What a group of checks finds, or that it did not come to an end."""
    try:
        async with asyncio.timeout(seconds):
            return await group
    except TimeoutError:
        return [Finding(check, False, f"no answer within {seconds:g} seconds", "see that it runs, and is not paused")]
