"""How speed depends on how much there is: keys, organizations, connections, workers; latency at half of the pace."""

from contextlib import AsyncExitStack
from dataclasses import replace

from tests.bench import machine
from tests.bench.cases import WARM
from tests.bench.population import Population
from tests.bench.runs import Case, Rows, in_turn, load
from tests.bench.stage import Stage, job, stage

SKEW = 1.1  # the exponent of Zipf's law
DRAWS = 400_000
WARM_UP = 100_000  # requests at most; where there are fewer keys, each is asked for once
SMALL, TEN_THOUSAND, LARGE = "10 keys, 1 tenant", "10,000 keys, 1,000 tenants", "1,000,000 keys, 100,000 tenants"
LARGE_EVENLY = f"{LARGE}, evenly"
HALF = "half of saturation"
ONE, TWO = "1 worker", "2 workers"
SIZES = ((1, 1), (10, 1), (100, 1), (10_000, 1), (10_000, 1_000), (1_000_000, 100_000))
CONNECTIONS = (1, 8, 64, 256, 512)
OWN_CORES = len(machine.CORES) >= 4  # for two workers, beside the load's


async def populations(at: Stage, *, rounds: int, seconds: float, at_most: int) -> Rows:
    """By keys and tenants, none of more than `at_most` keys; after the largest, keys drawn by Zipf's law and evenly."""
    sizes = [(keys, tenants) for keys, tenants in SIZES if keys <= at_most]
    rows = await in_turn([_drawn(at, *size, seconds, SKEW) for size in sizes], rounds=rounds)
    if at_most >= SIZES[-1][0]:
        even = _drawn(at, *SIZES[-1], seconds, 0.0)
        rows |= await in_turn([replace(even, name=LARGE_EVENLY)], rounds=rounds)
    return rows


async def connections(at: Stage, *, rounds: int, seconds: float) -> Rows:
    """By connections."""
    asked = job(at.envoy, keys=at.keys_of(WARM))
    return await in_turn(
        [
            Case(f"{count} connections", at.envoy, replace(asked, connections=count, seconds=seconds))
            for count in CONNECTIONS
        ],
        rounds=rounds,
    )


async def workers(*, rounds: int, seconds: float) -> Rows:
    """By worker processes, where there are cores for them; else on all cores, which the load and the stores share."""
    async with AsyncExitStack() as stack:
        found = []
        for count, name in enumerate((ONE, TWO), 1):
            cores = machine.CORES[-count:] if OWN_CORES else machine.CORES
            at = await stack.enter_async_context(stage(workers=count, cores=cores))
            asked = job(at.envoy, keys=at.keys_of(WARM))
            found.append(Case(name, at.envoy, replace(asked, seconds=seconds)))
        return await in_turn(found, rounds=rounds)


async def half(at: Stage, *, rounds: int, seconds: float) -> Rows:
    """Latency by a timetable at half of the rate that the service can do, found out at once before."""
    asked = job(at.envoy, keys=at.keys_of(WARM))
    full = [await load(replace(asked, seconds=seconds)) for _ in range(rounds)]
    saturation = sorted(one.requests / one.seconds for one in full)[rounds // 2]
    case = Case(HALF, at.envoy, replace(asked, seconds=2 * seconds, rate=saturation / 2))
    return await in_turn([case], rounds=rounds)


def _drawn(at: Stage, keys: int, tenants: int, seconds: float, skew: float) -> Case:
    name = f"{keys:,} key{'s'[: keys - 1]}, {tenants:,} tenant{'s'[: tenants - 1]}"
    population = Population(name, keys=keys, tenants=tenants)
    asked = replace(job(at.envoy, keys=at.keys_of(population, draws=DRAWS, skew=skew)), seconds=seconds)
    if keys > WARM_UP:
        return Case(name, at.envoy, asked, warm_up=WARM_UP)
    return Case(name, at.envoy, asked, warm_up=max(keys, 1_000), all_keys=at.keys_of(population))
