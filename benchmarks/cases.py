"""The rows of the first tables: one kind of request each, over 64 connections, warm unless the row says otherwise."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.bare import FORMS, LOOPS
from benchmarks.client import KEY, Job
from benchmarks.population import Population
from benchmarks.runs import Case, Rows, Server, in_turn
from benchmarks.stage import (
    BEARER,
    MALFORMED,
    PUBLIC,
    SAME,
    Stage,
    allow_row,
    another,
    bare,
    bare_row,
    job,
)
from tests.servers.otlp import otlp_receiver

HOOKS = Path(__file__).with_name("hooks")
NO_METRICS = {"PYTHONPATH": str(HOOKS), "BENCH_UNMEASURED": "yes"}
KINDS = ("allow", "401", "403", "429", "windows")  # held against bare aiohttp
ALL_DIFFER, ONE_PATH = "all differ", "one path"
ALLOW, HELLO = allow_row(ALL_DIFFER), bare_row(ALL_DIFFER)
FLOOR = "floor, all differ"
NGINX = "allow (nginx), all differ"
NO_CREDENTIAL, MALFORMED_CREDENTIAL = "401 no credential", "401 malformed"
FORBIDDEN, SPENT = "403 not permitted", "429 rate limited"
ADDRESSES, TWO_WINDOWS = "public, by address", "allow, bucket and quota"
MEASURED, UNMEASURED = "allow, with metrics", "allow, without metrics"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
WARM = Population("warm", keys=1_000, tenants=100)
UNPERMITTED = Population("unpermitted", keys=100, permissions='{"other": ["read"]}')
OVERDRAWN = Population("spent", keys=100, tenants=100, plan="spent")
WINDOWS = Population("windows", keys=1_000, tenants=100, plan="windows")
FRESH = 1_000  # keys that each round of a cold row asks for
COLD_KEY = "allow, cold key"  # of an organization that is known


async def cases(at: Stage, kinds: Collection[str], *, rounds: int, seconds: float) -> Rows:
    """The rows of those kinds, all beside bare aiohttp."""
    some = [case for kind in KINDS if kind in kinds for case in kind_of(kind, at)]
    if "allow" not in kinds:
        assert at.bare is not None
        some.insert(0, Case(HELLO, at.bare, job(at.bare)))
    return await in_turn(_for(some, seconds), rounds=rounds)


async def metrics(at: Stage, *, rounds: int, seconds: float) -> Rows:
    """A service beside the same that counts nothing at a check; neither has seen other keys before."""
    async with another(at) as (measured, _), another(at, **NO_METRICS) as (unmeasured, _):
        servers = {MEASURED: measured, UNMEASURED: unmeasured}
        some = [Case(name, server, job(server, keys=at.keys_of(WARM))) for name, server in servers.items()]
        return await in_turn(_for(some, seconds), rounds=rounds)


async def traced(at: Stage, *, rounds: int, seconds: float) -> Rows:
    """Without traces, and checks of traces that the proxy does not record, of none, and of those that it records."""
    parents = {
        "none recorded": f"traceparent: {PARENT}-00\r\n",
        "1 % recorded": "",
        "all recorded": f"traceparent: {PARENT}-01\r\n",
    }
    keys = at.keys_of(WARM)
    async with another(at) as (untraced, _), _tracing(at) as server:
        some = [Case("allow, no traces", untraced, job(untraced, keys=keys))]
        some += [
            Case(f"traces, {name}", server, job(server, keys=keys, credential=line + BEARER))
            for name, line in parents.items()
        ]
        return await in_turn(_for(some, seconds), rounds=rounds)


async def bares(*, rounds: int, seconds: float) -> Rows:
    """Bare aiohttp in every form and the floor, on every loop."""
    async with AsyncExitStack() as stack:
        some = []
        for form in FORMS:
            for loop in LOOPS:
                server = await stack.enter_async_context(bare(form, loop))
                some.append(Case(f"{form}, {loop}", server, job(server)))
        return await in_turn(_for(some, seconds), rounds=rounds)


async def cold(at: Stage, *, rounds: int) -> Rows:
    """Keys that neither the process nor Redis has seen, new ones in every round; their organization is known or not."""
    fresh = Population("cold", keys=rounds * FRESH, tenants=rounds * FRESH)
    known = Population("cold keys", keys=FRESH + rounds * FRESH)
    hello = bare_row("beside cold keys")
    assert at.bare is not None

    def asked(population: Population) -> Job:
        return replace(job(at.envoy, keys=at.keys_of(population)), seconds=60, at_most=FRESH)

    some = [
        Case(hello, at.bare, job(at.bare)),
        Case(COLD_KEY, at.envoy, asked(known), warm_up=FRESH, beside=hello),
        Case("allow, everything cold", at.envoy, asked(fresh), warm_up=0, beside=hello),
    ]
    return await in_turn(some, rounds=rounds)


@asynccontextmanager
async def _tracing(at: Stage) -> AsyncIterator[Server]:
    """The same service that records one in a hundred checks, and those that the proxy records."""
    with otlp_receiver() as receiver:
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
        async with another(at, **sampler, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as (server, _):
            yield server


def _for(some: list[Case], seconds: float) -> list[Case]:
    return [replace(case, job=replace(case.job, seconds=seconds)) for case in some]


def kind_of(kind: str, at: Stage) -> list[Case]:
    """The rows of a kind."""

    def row(name: str, question: str) -> Case:
        return Case(name, at.envoy, ASKED[question](at), beside=HELLO)

    match kind:
        case "allow":
            assert at.floor is not None
            return [
                *at.beside_bare(ALL_DIFFER, ASKED["different"](at)),
                Case(FLOOR, at.floor, job(at.floor, keys=at.keys_of(WARM)), beside=HELLO),
                *at.beside_bare(ONE_PATH, ASKED["one-path"](at)),
                Case(NGINX, at.nginx, job(at.nginx, dialect="nginx", keys=at.keys_of(WARM)), beside=HELLO),
            ]
        case "401":
            return [row(NO_CREDENTIAL, "401"), row(MALFORMED_CREDENTIAL, "malformed")]
        case "403":
            return [row(FORBIDDEN, "403")]
        case "429":
            return [row(SPENT, "429")]
        case _:
            return [row(ADDRESSES, "public"), row(TWO_WINDOWS, "windows")]


# Questions, each to the service's listener for Envoy.
ASKED: Mapping[str, Callable[[Stage], Job]] = {
    "different": lambda at: job(at.envoy, keys=at.keys_of(WARM)),
    "one-path": lambda at: job(at.envoy, keys=at.keys_of(WARM), path=SAME),
    "401": lambda at: job(at.envoy, status=401),
    "malformed": lambda at: job(at.envoy, credential=MALFORMED, status=401),
    "403": lambda at: job(at.envoy, keys=at.keys_of(UNPERMITTED), status=403),
    "429": lambda at: job(at.envoy, keys=at.keys_of(OVERDRAWN), status=429),
    "public": lambda at: job(at.envoy, keys=at.addresses(1_000), path=PUBLIC, address=KEY, credential=""),
    "windows": lambda at: job(at.envoy, keys=at.keys_of(WINDOWS)),
}
