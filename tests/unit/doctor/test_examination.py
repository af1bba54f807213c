"""A check that hangs does not delay the others for ever."""

import asyncio

from extauthz.doctor.examination import Unwell, within
from extauthz.doctor.finding import CLOCK_SKEW_MAX_SECONDS, Finding, clock


async def test_a_check_that_never_ends_is_given_up() -> None:
    """Its row says so."""

    async def never() -> list[Finding]:
        await asyncio.Event().wait()
        raise AssertionError

    (finding,) = await within(0.01, "redis", never())
    assert (finding.check, finding.ok) == ("redis", False)
    assert finding.detail == "no answer within 0.01 seconds"
    assert finding.remedy


def test_clocks() -> None:
    """They may differ by a little, and by as much as the measurement may be wrong."""
    assert clock("c", "Redis", CLOCK_SKEW_MAX_SECONDS, 0.0).ok
    assert clock("c", "Redis", -CLOCK_SKEW_MAX_SECONDS - 1, 1.0).ok
    ahead, behind = (
        clock("c", "Redis", CLOCK_SKEW_MAX_SECONDS + 1, 0.5),
        clock("c", "Redis", -CLOCK_SKEW_MAX_SECONDS - 1, 0.5),
    )
    assert ahead.detail == "the clock of Redis is 3.0 seconds ahead of that of this machine"
    assert behind.detail == "the clock of Redis is 3.0 seconds behind that of this machine"
    assert not ahead.ok
    assert not behind.ok


def test_summary() -> None:
    """How many checks failed, and which, each once."""
    findings = [Finding("a", False, "x", "y"), Finding("b", True, "x"), Finding("a", False, "z", "y")]
    assert str(Unwell(findings)) == "2 of 3 checks failed: a"
