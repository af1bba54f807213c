"""The rows of the first table: one kind of request each, warm unless the row says otherwise."""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from extauthz.demo.process import family
from tests.bench import machine
from tests.bench.bare import FORMS, LOOPS
from tests.bench.population import Population
from tests.bench.runs import Case, Rows, Server
from tests.bench.stage import BEARER, Stage, bare, job
from tests.servers.otlp import otlp_receiver

HOOKS = Path(__file__).with_name("hooks")
KINDS = ("bare", "allow", "traced", "401", "403", "429", "cold")
HELLO = "bare aiohttp Application"
ALLOW = "allow (Envoy)"
NO_CREDENTIAL, MALFORMED = "401 no credential", "401 malformed credential"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
WARM = Population("warm", keys=1_000, tenants=100)
FRESH = 1_000  # keys that each round of the cold row asks for, each of an organization of its own


@asynccontextmanager
async def cases(at: Stage, kinds: Collection[str], *, seconds: float) -> AsyncIterator[list[Case]]:
    """The warm ones of those kinds. Bare aiohttp runs until this is left, on the loop that the service has, first."""
    async with AsyncExitStack() as stack:
        found: list[Case] = []
        for form in FORMS if "bare" in kinds else ():
            for loop in reversed(LOOPS):
                server = await stack.enter_async_context(bare(form, loop))
                name = f"bare aiohttp {form.title()}" + (f" on {loop}" if loop != LOOPS[-1] else "")
                found.append(Case(name, server, job(server)))
        found += [case for kind in KINDS if kind in kinds for case in _of(kind, at)]
        if "allow" in kinds:
            server = await stack.enter_async_context(_unmeasured(at))
            found.append(Case("allow (Envoy), without metrics", server, job(server, keys=at.keys_of(WARM))))
        if "traced" in kinds:
            found += _traced(await stack.enter_async_context(_tracing(at)), at.keys_of(WARM))
        yield [replace(case, job=replace(case.job, seconds=seconds)) for case in found]


def cold(at: Stage, *, rounds: int) -> Case:
    """Keys and organizations that neither the process nor Redis has seen, new ones in every round."""
    fresh = Population("cold", keys=rounds * FRESH, tenants=rounds * FRESH)
    asked = job(at.envoy, keys=at.keys_of(fresh))
    return Case("allow (Envoy), everything cold", at.envoy, replace(asked, seconds=60, at_most=FRESH), warm_up=0)


def hold_against_bare(rows: Rows) -> None:
    """Adds the ratio of each row's CPU to bare aiohttp's, round by round, where that was measured."""
    if HELLO in rows:
        for figures in rows.values():
            figures["of_bare"] = [a / b for a, b in zip(figures["cpu"], rows[HELLO]["cpu"], strict=True)]


@asynccontextmanager
async def _unmeasured(at: Stage) -> AsyncIterator[Server]:
    """The same service, on the same core, that counts nothing at a check."""
    async with at.at.beside(PYTHONPATH=str(HOOKS), BENCH_UNMEASURED="yes") as (service, host, port):
        pids = family(service.process.pid)
        machine.pin(pids, machine.SERVED)
        yield Server(pids, host, port, at.envoy.gauges)


@asynccontextmanager
async def _tracing(at: Stage) -> AsyncIterator[Server]:
    """The same service that records one in a hundred checks, and those that the proxy records."""
    with otlp_receiver() as receiver:
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
        settings = sampler | {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        async with at.at.beside(**settings) as (service, host, port):
            pids = family(service.process.pid)
            machine.pin(pids, machine.SERVED)
            yield Server(pids, host, port, at.envoy.gauges)


def _traced(server: Server, keys: str) -> list[Case]:
    """Checks of traces that the proxy does not record, of none, and of those that it records."""
    plain = job(server, keys=keys)
    parents = {
        "none recorded": f"traceparent: {PARENT}-00\r\n",
        "1 % recorded": "",
        "all recorded": f"traceparent: {PARENT}-01\r\n",
    }
    return [
        Case(
            f"allow (Envoy), traces, {name}", server, replace(plain, before=plain.before.replace(BEARER, line + BEARER))
        )
        for name, line in parents.items()
    ]


def _of(kind: str, at: Stage) -> list[Case]:
    envoy, nginx = at.envoy, at.nginx
    match kind:
        case "allow":
            keys = at.keys_of(WARM)
            return [
                Case(ALLOW, envoy, job(envoy, keys=keys)),
                Case("allow (nginx)", nginx, job(nginx, dialect="nginx", keys=keys)),
            ]
        case "401":
            return [
                Case(NO_CREDENTIAL, envoy, job(envoy, status=401)),
                Case(MALFORMED, envoy, job(envoy, credential="authorization: Bearer a b", status=401)),
            ]
        case "403":
            keys = at.keys_of(Population("unpermitted", keys=100, permissions='{"other": ["read"]}'))
            return [Case("403 not permitted", envoy, job(envoy, keys=keys, status=403))]
        case "429":
            keys = at.keys_of(Population("spent", keys=100, tenants=100, plan="spent"))
            return [Case("429 rate limited", envoy, job(envoy, keys=keys, status=429))]
        case _:
            return []
