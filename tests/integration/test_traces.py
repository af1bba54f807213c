"""One span a check with its calls of stores, sent to a real receiver."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis
from tests.servers.fixtures import stopped
from tests.servers.management_client import ManagementClient
from tests.servers.otlp import CLIENT, ERROR, OtlpReceiver, Span, otlp_receiver
from tests.servers.raw_http import ask, wire
from tests.servers.serving import LISTENERS, PATIENT, Serving, question, serving
from tests.servers.waiting import until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
def environment(receiver: OtlpReceiver) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **PATIENT}


@pytest.fixture
async def service(database: str, redis_url: str, environment: dict[str, str]) -> AsyncIterator[Serving]:
    async with serving(database, redis_url, **environment) as service:
        yield service


def header(*traceparents: str) -> bytes:
    return b"".join(f"traceparent: {each}\r\n".encode() for each in traceparents)


async def until_changes_are_told(service: Serving) -> None:
    """From then on records are kept in the process."""

    async def told() -> bool:
        return service.value("extauthz_change_feed_down") == 0

    await until(told)


async def checks(receiver: OtlpReceiver, count: int = 1) -> list[Span]:
    """The spans of checks in the order of their beginnings, once so many have come."""
    return sorted(await asyncio.to_thread(receiver.checks, count), key=lambda span: span.times)


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("fast_path", ["true", "false"])
async def test_one_span_a_check(
    database: str,
    redis_url: str,
    operator: ManagementClient,
    receiver: OtlpReceiver,
    environment: dict[str, str],
    *,
    listener: str,
    fast_path: str,
) -> None:
    """It is part of the proxy's trace, has the decision, and a child for each call of a store."""
    details, key = await operator.new_key("acme")
    more = header(SAMPLED) + b"tracestate: congo=t61rcWkgMzE,rojo=00f067aa0ba902b7\r\n"
    async with serving(database, redis_url, **environment, EXTAUTHZ_FAST_PATH=fast_path) as service:
        await until_changes_are_told(service)
        asked = question(listener, "/a/b?q=1", key=key, more=more)
        for _ in range(2):
            assert (await ask(service.ports[listener], asked)).decision == "allow"
        first, second = await checks(receiver, 2)
    for check in (first, second):
        assert (check.name, check.trace_id, check.parent_id) == ("GET /**", TRACE, SPAN)
        assert check.state == "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    assert first.attributes == {
        "extauthz.decision": "allow",
        "extauthz.dialect": listener,
        "extauthz.route": "/**",
        "extauthz.organization_id": details.organization_id,
        "extauthz.api_key_id": details.id,
        "extauthz.cache_layer": "postgresql",
        "extauthz.batch_size": 1,
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/**",
        "url.path": "/a/b",
        **({} if listener in ("nginx", "forward") else {"server.address": "api.example.com"}),
    }
    assert second.attributes == first.attributes | {"extauthz.cache_layer": "process"}
    calls = receiver.calls(first)
    # The first check of an organization finds no counters, so that it spends twice.
    assert set(calls) == {"GET api_key", "SELECT api_key", "EVALSHA spend", "SELECT usage"}
    assert list(receiver.calls(second)) == ["EVALSHA spend"]
    for call in [*calls.values(), *receiver.calls(second).values()]:
        assert (call.trace_id, call.kind, call.status, call.links) == (TRACE, CLIENT, 0, [])
        assert first.times[0] <= call.times[0] <= call.times[1]
    assert calls["SELECT api_key"].attributes == {
        "db.system.name": "postgresql",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT api_key",
    }
    assert calls["EVALSHA spend"].attributes == {
        "db.system.name": "redis",
        "db.operation.name": "EVALSHA",
        "db.query.summary": "EVALSHA spend",
        "db.stored_procedure.name": "spend",
    }


@pytest.mark.parametrize("fast_path", ["true", "false"])
async def test_records_are_counted_once(
    database: str, redis_url: str, operator: ManagementClient, environment: dict[str, str], *, fast_path: str
) -> None:
    """A recorded check counts one look for its key and one for its organization, whichever way it came."""
    _, key = await operator.new_key("acme")
    async with serving(database, redis_url, **environment, EXTAUTHZ_FAST_PATH=fast_path) as service:
        await until_changes_are_told(service)
        async with wire(service.ports["envoy"]) as connection:
            await connection.ask(question("envoy", key=key))
            before = await service.scraped()
            for parent in 4 * (SAMPLED, UNSAMPLED):
                answer = await connection.ask(question("envoy", key=key, more=header(parent)))
                assert answer.decision == "allow"
        metrics = await service.scraped()
    for name in ('extauthz_api_key_cache_hits_total{layer="process"}', "tenant_quota_cache_hits_total"):
        assert metrics[name] - before[name] == 8


async def test_refused_checks(service: Serving, receiver: OtlpReceiver, operator: ManagementClient) -> None:
    """So is each refusal one span, without a parent where the proxy has none: also of what asks nothing."""
    details, key = await operator.new_key("acme")
    await operator.keys.revoke(details.id, last=True)
    port = service.ports["envoy"]
    await ask(port, question("envoy", "/a"))
    await ask(port, question("envoy", "/a", key=key, method="PATCH"))
    await ask(service.ports["nginx"], question("nginx", "//a", method="BREW"))
    await ask(service.ports["nginx"], question("envoy", "/a", more=header(SAMPLED)))
    await ask(port, b"no HTTP at all\r\n\r\n")
    spans = await checks(receiver, 5)
    told = [(span.attributes["extauthz.decision"], span.name, span.attributes.get("url.path")) for span in spans]
    assert told == [
        ("no_credentials", "GET /**", "/a"),
        ("invalid_credentials", "PATCH /**", "/a"),
        ("path_ambiguous", "_OTHER", "//a"),
        ("bad_proxy_request", "_OTHER", None),
        ("bad_proxy_request", "_OTHER", None),
    ]
    assert [span.attributes["http.response.status_code"] for span in spans] == [401, 401, 403, 403, 403]
    assert [span.status for span in spans] == [0] * 5  # not an error of the server
    assert spans[1].attributes["extauthz.reason"] == "revoked"
    assert spans[1].attributes["extauthz.organization_id"] == details.organization_id
    assert [span.parent_id for span in spans] == ["", "", "", SPAN, ""]
    assert len({span.trace_id for span in spans}) == 5


@pytest.mark.parametrize(
    "more",
    [
        header("00-malformed"),
        header(SAMPLED, SAMPLED),
        header(f"{SAMPLED},{SAMPLED}"),
        header(SAMPLED.upper()),
        header(SAMPLED.replace(TRACE, "0" * 32)),
    ],
)
async def test_an_invalid_parent_header_is_ignored(service: Serving, receiver: OtlpReceiver, more: bytes) -> None:
    """The check begins a trace of its own, without the other's state."""
    await ask(service.ports["envoy"], question("envoy", "/", more=more + b"tracestate: a=b\r\n"))
    (span,) = await checks(receiver)
    assert span.trace_id != TRACE
    assert (span.parent_id, span.state) == ("", "")


@pytest.mark.parametrize(
    ("sampler", "share", "kept"),
    [
        ("always_on", "1", ["", SPAN, SPAN]),
        ("always_off", "1", []),
        ("traceidratio", "1", ["", SPAN, SPAN]),
        ("traceidratio", "0", []),
        ("parentbased_always_on", "1", ["", SPAN]),
        ("parentbased_always_off", "1", [SPAN]),
        ("parentbased_traceidratio", "0", [SPAN]),
        ("parentbased_traceidratio", "1", ["", SPAN]),
    ],
)
async def test_samplers(
    database: str,
    redis_url: str,
    receiver: OtlpReceiver,
    environment: dict[str, str],
    *,
    sampler: str,
    share: str,
    kept: list[str],
) -> None:
    """Which are kept of a check without a parent, and of those whose proxy records and does not record."""
    more = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": share}
    async with serving(database, redis_url, **environment, **more) as service:
        for parent in (b"", header(SAMPLED), header(UNSAMPLED)):
            await ask(service.ports["envoy"], question("envoy", "/", more=parent))
    # What was recorded is sent before the end.
    assert [span.parent_id for span in await checks(receiver, len(kept))] == kept


async def test_checks_that_share_a_call(service: Serving, receiver: OtlpReceiver, operator: ManagementClient) -> None:
    """Each has a span of the shared call; the first one's is the call's own and links to all the checks."""
    _, key = await operator.new_key("acme")
    port = service.ports["envoy"]
    await ask(port, question("envoy", "/warm", key=key))
    async with AsyncExitStack() as stack:
        ahead, *wires = [await stack.enter_async_context(wire(port)) for _ in range(5)]
        # Those that are not recorded are not plain either: they would come to their limits before the others.
        unrecorded = header(UNSAMPLED) + b"X-Odd: a\tb\r\n"
        # They are all there in one turn of the loop. The first is sent at once: the call before it carried one check.
        ahead.send(question("envoy", "/ahead", key=key, more=unrecorded))
        for number, each in enumerate(wires):
            more = unrecorded if number == 3 else header(SAMPLED)
            each.send(question("envoy", f"/{number}", key=key, more=more))
        for each in (ahead, *wires):
            assert (await each.answer()).decision == "allow"
    _, *spans = await checks(receiver, 4)
    assert [span.attributes["extauthz.batch_size"] for span in spans] == [4] * 3
    calls = [receiver.calls(span)["EVALSHA spend"] for span in spans]
    assert [call.attributes["db.operation.batch.size"] for call in calls] == [4] * 3
    (own,) = [call for call in calls if len(call.links) > 1]
    assert own.parent_id == own.links[0][1]
    assert sorted(own.links) == sorted((TRACE, span.span_id) for span in spans)
    assert [call.links for call in calls if call is not own] == [[(TRACE, own.span_id)]] * 2


async def test_stores_that_fail(
    service: Serving, receiver: OtlpReceiver, operator: ManagementClient, redis_server: Redis, postgres_server: Postgres
) -> None:
    """The call of the store is an error and says which; so is a check that is answered 503."""
    _, key = await operator.new_key("acme")
    with stopped(redis_server):
        await ask(service.ports["envoy"], question("envoy", "/", key=key))
    (check,) = await checks(receiver)
    assert (check.attributes["extauthz.decision"], check.status) == ("allow", 0)
    call = receiver.calls(check)["EVALSHA spend"]
    assert call.status == ERROR
    assert call.attributes["error.type"] in ("connection", "down")
    with stopped(postgres_server):
        _, unknown = operator.keys, "k" * 40
        await ask(service.ports["envoy"], question("envoy", "/", key=unknown))
    _, check = await checks(receiver, 2)
    assert (check.attributes["http.response.status_code"], check.status) == (503, ERROR)
    assert check.attributes["error.type"] == "authentication_unavailable"
    assert receiver.calls(check)["SELECT api_key"].status == ERROR


async def test_no_credential_is_sent(
    database: str, redis_url: str, receiver: OtlpReceiver, environment: dict[str, str], operator: ManagementClient
) -> None:
    """In whatever place of a request a key is: no byte of it is in what is sent, nor of the query."""
    _, key = await operator.new_key("acme")
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret,x-team=a%2Cb"}
    async with serving(database, redis_url, **environment, **headers) as service:
        more = header(SAMPLED) + f"tracestate: a={key}\r\nx-request-id: {key}\r\ncookie: {key}\r\n".encode()
        for place in (f"/{key}/a?s3cret-of-query={key}", f"/a?{key}", f"/{'a' * 240}{key}"):
            for listener in LISTENERS:
                await ask(service.ports[listener], question(listener, place, key=key, more=more))
        host = question("envoy", "/", key=key).replace(b"api.example.com", key.encode())
        await ask(service.ports["envoy"], host)
        await ask(service.ports["nginx"], question("nginx", "/", key=key, method=key))
        await ask(service.ports["nginx"], question("nginx", b"/\xff", key=key))
        await ask(service.ports["envoy"], question("envoy", "/a b", key=key))
    spans = await checks(receiver, 13)
    paths = {span.attributes.get("url.path") for span in spans}
    assert paths >= {"/xa_…/a", "/a", "/", "/\\udcff"}
    assert all(sent["authorization"] == "Bearer s3cret" and sent["x-team"] == "a,b" for sent in receiver.headers)
    for body in receiver.bodies:
        assert key.encode()[:12] not in body
        assert b"s3cret" not in body


async def test_what_describes_the_service(
    database: str, redis_url: str, receiver: OtlpReceiver, environment: dict[str, str]
) -> None:
    """Each span belongs to a service with the configured name and attributes."""
    more = {"OTEL_SERVICE_NAME": "door", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging"}
    async with serving(database, redis_url, **environment, **more) as service:
        await ask(service.ports["envoy"], question("envoy", "/"))
    (span,) = await checks(receiver)
    assert span.resource["service.name"] == "door"
    assert span.resource["deployment.environment.name"] == "staging"
    assert span.resource["service.version"]
    assert span.resource["telemetry.sdk.name"] == "opentelemetry"
