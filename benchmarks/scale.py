"""How speed depends on how much there is: keys, organizations, workers; what PostgreSQL is asked meanwhile."""

from contextlib import AsyncExitStack
from dataclasses import replace

from benchmarks import machine
from benchmarks.cases import WARM
from benchmarks.population import Population, begin_counters
from benchmarks.runs import Case, Rows, in_turn
from benchmarks.stage import Stage, job, stage

SKEW = 1.1  # the exponent of Zipf's law
DRAWS = 1_000_000
WARM_UP = 300_000  # requests at most; where there are fewer keys, each is asked for once
ONCE_SECONDS = 60.0  # at most, for a million keys each once
WARM_SECONDS = 130.0  # longer than any record lasts
SIZES = ((1, 1), (10, 1), (10_000, 1), (10_000, 1_000), (1_000_000, 100_000))
ONE, TWO = "1 worker", "2 workers"
OWN_CORES = len(machine.CORES) >= 4  # for two workers, beside the load's


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _short(number: int) -> str:
    return f"{number}" if number < 1_000 else "10" + str(len(str(number)) - 1).translate(_RAISED)


def size(keys: int, tenants: int) -> str:
    """What a population of that size is called."""
    return f"{_short(keys)} key{'s'[: keys - 1]}, {_short(tenants)} tenant{'s'[: tenants - 1]}"


LARGEST = SIZES[-1][0]
SMALL, LARGE = size(10, 1), size(*SIZES[-1])
TEN_THOUSAND = (10_000, 1_000)
EACH_ONCE = "10⁶ keys, each once"
LONG_WARM = "10⁴ keys, warm"


async def populations(at: Stage, *, rounds: int, seconds: float, at_most: int) -> Rows:
    """By keys and tenants, drawn by Zipf's law, none of more than `at_most` keys; then each key of the largest once.

    One after the other: while the largest warms up, the records of the others would end.
    """
    sizes = [(keys, tenants) for keys, tenants in SIZES if keys <= at_most]
    some = [_drawn(at, *each, seconds) for each in sizes]
    await begin_counters(at.at, _population(*sizes[-1]))  # once for all: their first checks are not what is measured
    rows: Rows = {}
    for each in some:
        rows |= await in_turn([each], rounds=rounds)
    if at_most >= LARGEST:
        rows |= await in_turn([_once(at)], rounds=1)
    return rows


async def queries(at: Stage) -> Rows:
    """Checks for longer than any record lasts, so that each is read again at least once."""
    population = _population(*TEN_THOUSAND)
    keys = at.keys_of(population)
    asked = replace(job(at.envoy, keys=keys), seconds=WARM_SECONDS)
    return await in_turn([Case(LONG_WARM, at.envoy, asked, warm_up=population.keys, all_keys=keys)], rounds=1)


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


def _drawn(at: Stage, keys: int, tenants: int, seconds: float) -> Case:
    population = _population(keys, tenants)
    draws = at.keys_of(population, draws=DRAWS, skew=SKEW)
    asked = replace(job(at.envoy, keys=draws), seconds=seconds)
    if keys > WARM_UP:
        return Case(population.name, at.envoy, asked, warm_up=WARM_UP, warm_seconds=WARM_SECONDS)
    return Case(population.name, at.envoy, asked, warm_up=max(keys, 1_000), all_keys=at.keys_of(population))


def _once(at: Stage) -> Case:
    keys, tenants = SIZES[-1]
    asked = job(at.envoy, keys=at.keys_of(_population(keys, tenants)))
    return Case(EACH_ONCE, at.envoy, replace(asked, seconds=ONCE_SECONDS, at_most=keys), warm_up=0)


def _population(keys: int, tenants: int) -> Population:
    return Population(size(keys, tenants), keys=keys, tenants=tenants)
