"""The rows of the first tables: one kind of request each, over 64 connections, warm unless the row says otherwise."""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.bare import FORMS, LOOPS
from tests.bench.client import KEY, Job
from tests.bench.population import Population
from tests.bench.runs import Case, Rows, Server, in_turn
from tests.bench.stage import (
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
KINDS = ("allow", "401", "403", "429", "windows")  # held against bare aiohttp
ALL_DIFFER, ONE_PATH = "all differ", "one path"
ALLOW, HELLO = allow_row(ALL_DIFFER), bare_row(ALL_DIFFER)
NGINX = "allow (nginx), all differ"
NO_CREDENTIAL, MALFORMED_CREDENTIAL = "401 no credential", "401 malformed"
FORBIDDEN, SPENT = "403 not permitted", "429 rate limited"
ADDRESSES, TWO_WINDOWS = "public, by address", "allow, bucket and quota"
MEASURED, UNMEASURED = "allow, with metrics", "allow, without metrics"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
WARM = Population("warm", keys=1_000, tenants=100)
FRESH = 1_000  # keys that each round of the cold row asks for, each of an organization of its own


async def cases(at: Stage, kinds: Collection[str], *, rounds: int, seconds: float) -> Rows:
    """The rows of those kinds, all beside bare aiohttp."""
    some = [case for kind in KINDS if kind in kinds for case in _of(kind, at)]
    if "allow" not in kinds:
        assert at.bare is not None
        some.insert(0, Case(HELLO, at.bare, job(at.bare)))
    return await in_turn(_for(some, seconds), rounds=rounds)


async def metrics(at: Stage, *, rounds: int, seconds: float) -> Rows:
    """The service beside the same that counts nothing at a check."""
    async with another(at, PYTHONPATH=str(HOOKS), BENCH_UNMEASURED="yes") as unmeasured:
        servers = {MEASURED: at.envoy, UNMEASURED: unmeasured}
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
    some = [Case("allow, no traces", at.envoy, job(at.envoy, keys=keys))]
    async with _tracing(at) as server:
        some += [
            Case(f"traces, {name}", server, job(server, keys=keys, credential=line + BEARER))
            for name, line in parents.items()
        ]
        return await in_turn(_for(some, seconds), rounds=rounds)


async def bares(*, rounds: int, seconds: float) -> Rows:
    """Bare aiohttp in every form, on every loop."""
    async with AsyncExitStack() as stack:
        some = []
        for form in FORMS:
            for loop in LOOPS:
                server = await stack.enter_async_context(bare(form, loop))
                some.append(Case(f"{form}, {loop}", server, job(server)))
        return await in_turn(_for(some, seconds), rounds=rounds)


async def cold(at: Stage, *, rounds: int) -> Rows:
    """Keys and organizations that neither the process nor Redis has seen, new ones in every round."""
    fresh = Population("cold", keys=rounds * FRESH, tenants=rounds * FRESH)
    asked = replace(job(at.envoy, keys=at.keys_of(fresh)), seconds=60, at_most=FRESH)
    return await in_turn([Case("allow, everything cold", at.envoy, asked, warm_up=0)], rounds=rounds)


@asynccontextmanager
async def _tracing(at: Stage) -> AsyncIterator[Server]:
    """The same service that records one in a hundred checks, and those that the proxy records."""
    with otlp_receiver() as receiver:
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
        async with another(at, **sampler, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as server:
            yield server


def _for(some: list[Case], seconds: float) -> list[Case]:
    return [replace(case, job=replace(case.job, seconds=seconds)) for case in some]


def _of(kind: str, at: Stage) -> list[Case]:
    envoy, nginx = at.envoy, at.nginx

    def row(name: str, asked: Job) -> Case:
        return Case(name, envoy, asked, beside=HELLO)

    match kind:
        case "allow":
            keys = at.keys_of(WARM)
            return [
                *at.beside_bare(ALL_DIFFER, job(envoy, keys=keys)),
                *at.beside_bare(ONE_PATH, job(envoy, keys=keys, path=SAME)),
                Case(NGINX, nginx, job(nginx, dialect="nginx", keys=keys), beside=HELLO),
            ]
        case "401":
            return [
                row(NO_CREDENTIAL, job(envoy, status=401)),
                row(MALFORMED_CREDENTIAL, job(envoy, credential=MALFORMED, status=401)),
            ]
        case "403":
            unpermitted = Population("unpermitted", keys=100, permissions='{"other": ["read"]}')
            return [row(FORBIDDEN, job(envoy, keys=at.keys_of(unpermitted), status=403))]
        case "429":
            spent = Population("spent", keys=100, tenants=100, plan="spent")
            return [row(SPENT, job(envoy, keys=at.keys_of(spent), status=429))]
        case _:
            windows = Population("windows", keys=1_000, tenants=100, plan="windows")
            return [
                row(ADDRESSES, job(envoy, keys=at.addresses(1_000), path=PUBLIC, address=KEY, credential="")),
                row(TWO_WINDOWS, job(envoy, keys=at.keys_of(windows))),
            ]
