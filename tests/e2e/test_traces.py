"""One trace id from the proxy to the stores, with the recipes of docs/howto/traces.md."""

import re
from collections.abc import Iterator
from textwrap import indent

import pytest

from extauthz.demo.folders import temporary_folder
from tests.e2e.client import ask, bearer
from tests.e2e.edges import front, seen
from tests.e2e.nginx_blocks import Running, running
from tests.e2e.site import Customer, Site
from tests.e2e.test_edges import PATH
from tests.servers.edges import FILES
from tests.servers.otlp import OtlpReceiver, Span, otlp_receiver
from tests.servers.raw_upstream import raw_upstream

PAGE = (FILES / "docs/howto/traces.md").read_text("utf-8")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "congo=t61"}
STAT_PREFIX, UPSTREAM = "                stat_prefix: api\n", "    - name: upstream\n"


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(site: Site, receiver: OtlpReceiver) -> Iterator[Site]:
    with site.configured(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url):
        yield site


def blocks(kind: str) -> list[str]:
    """The page's blocks of a kind."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def of_service(receiver: OtlpReceiver, name: str) -> list[Span]:
    return [span for span in receiver.spans if span.resource["service.name"] == name]


def check_in(receiver: OtlpReceiver, trace_id: str) -> Span:
    """The span of the check that is part of a trace, once it has come; it has a call of Redis."""

    def found(it: OtlpReceiver) -> list[Span]:
        spans = [span for span in of_service(it, "extauthz") if span.trace_id == trace_id]
        return [span for span in spans if "extauthz.decision" in span.attributes]

    receiver.until(lambda it: bool(found(it)))
    (check,) = found(receiver)
    call = receiver.calls(check)["EVALSHA spend"]
    assert (call.trace_id, call.attributes["db.system.name"]) == (trace_id, "redis")
    return check


def test_envoy_that_traces(traced: Site, receiver: OtlpReceiver, customer: Customer) -> None:
    """Envoy's span is the root; the check is a child of its request, and the upstream is in the same trace."""
    tracing, cluster = blocks("yaml")

    def change(text: str) -> str:
        assert STAT_PREFIX in text
        assert UPSTREAM in text
        text = text.replace(STAT_PREFIX, STAT_PREFIX + indent(tracing, " " * 16))
        text = text.replace(UPSTREAM, indent(cluster, " " * 4) + UPSTREAM)
        return text.replace("port_value: 4318", f"port_value: {receiver.port}")

    with raw_upstream() as upstream, front("envoy", traced.stack.ports, upstream, change=change) as edge:
        answer = ask(edge.proxy, PATH, bearer(customer.key))
        trace_id = dict(seen(answer))["traceparent"].split("-")[1]
        check = check_in(receiver, trace_id)
        receiver.until(lambda it: check.parent_id in {span.span_id for span in of_service(it, "envoy")})
    spans = {span.span_id: span for span in of_service(receiver, "envoy")}
    root = spans[check.parent_id]
    while root.parent_id:
        root = spans[root.parent_id]
    assert {root.trace_id, check.trace_id} == {trace_id}
    assert check.attributes["extauthz.dialect"] == "envoy"


@pytest.mark.parametrize("name", ["envoy", "nginx"])
def test_proxies_as_shipped(traced: Site, receiver: OtlpReceiver, customer: Customer, name: str) -> None:
    """The client's trace reaches the check, with the client's own trace state."""
    proxy = {proxy.name: proxy for proxy in traced.stack.proxies}[name]
    receiver.spans.clear()
    assert ask(proxy, PATH, bearer(customer.key) | PARENT).status == 200
    check = check_in(receiver, TRACE)
    assert (check.parent_id, check.state) == (SPAN, "congo=t61")
    assert check.attributes["extauthz.dialect"] == name


@pytest.fixture(scope="module")
def nginx(traced: Site) -> Iterator[Running]:
    maps, header = blocks("nginx")
    here = "    # Whether a request was allowed"
    changes = {here: f"{maps}\n{here}", "proxy_set_header traceparent $http_traceparent;": header}
    block = f"location / {{ include extauthz.conf; {header} proxy_pass http://app; }}"
    with (
        temporary_folder("extauthz test ") as folder,
        running(traced, folder, [block], program=None, changes=changes) as nginx,
    ):
        yield nginx


def test_nginx_that_begins_traces(nginx: Running, receiver: OtlpReceiver, customer: Customer) -> None:
    """The trace's id is that of the request, for the check and for the upstream."""
    assert ask(nginx.proxy(0), PATH, bearer(customer.key)).status == 200
    upstream = nginx.behind.seen[-1]
    (request_id,), (traceparent,) = upstream.values("X-Request-ID"), upstream.values("traceparent")
    assert traceparent == f"00-{request_id}-{request_id[:16]}-01"
    assert check_in(receiver, request_id).parent_id == request_id[:16]


def test_nginx_in_the_middle_of_a_trace(nginx: Running, receiver: OtlpReceiver, customer: Customer) -> None:
    """A trace that is there already goes on."""
    receiver.spans.clear()
    assert ask(nginx.proxy(0), PATH, bearer(customer.key) | PARENT).status == 200
    assert nginx.behind.seen[-1].values("traceparent") == [PARENT["traceparent"]]
    assert check_in(receiver, TRACE).parent_id == SPAN
