"""By connections, and latency at rates that do not depend on the answers: the service beside bare aiohttp."""

from collections.abc import Collection
from dataclasses import replace
from statistics import median

from benchmarks.cases import WARM
from benchmarks.runs import Rows, in_turn, pace
from benchmarks.stage import Stage, allow_row, job

RATES = (1_000, 5_000, 10_000, 20_000)  # requests a second
JUDGED_RATE = 5_000
CONNECTIONS = (1, 8, 256)  # 64 are in the first table
HALF = "half of its pace"


def at_rate(rate: int) -> str:
    """What rows at that rate are called."""
    return f"{rate:,}/s"


def over(count: int) -> str:
    """What rows over so many connections are called."""
    return f"{count} connection{'s'[: count - 1]}"


async def connections(at: Stage, counts: Collection[int] = CONNECTIONS, *, rounds: int, seconds: float) -> Rows:
    """By connections, each of which asks again as soon as it is answered."""
    asked = replace(job(at.envoy, keys=at.keys_of(WARM)), seconds=seconds)
    some = [case for count in counts for case in at.beside_bare(over(count), replace(asked, connections=count))]
    return await in_turn(some, rounds=rounds)


async def rates(at: Stage, several: Collection[int] = RATES, *, rounds: int, seconds: float) -> Rows:
    """At fixed rates."""
    asked = replace(job(at.envoy, keys=at.keys_of(WARM)), seconds=seconds)
    some = [case for rate in several for case in at.beside_bare(at_rate(rate), replace(asked, rate=rate))]
    return await in_turn(some, rounds=rounds)


async def half(at: Stage, *, rounds: int, seconds: float) -> Rows:
    """At half of what the service can do, which is found out at once before; bare aiohttp at the same rate."""
    name = "saturation"
    asked = replace(job(at.envoy, keys=at.keys_of(WARM)), seconds=seconds)
    cases = at.beside_bare(name, asked)[:2]
    rows = await in_turn(cases[1:], rounds=rounds)
    at_half = replace(asked, rate=median(pace(rows[allow_row(name)])) / 2)
    return rows | await in_turn(at.beside_bare(HALF, at_half)[:2], rounds=rounds)
