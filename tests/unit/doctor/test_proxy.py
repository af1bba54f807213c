"""Checks of a proxy from outside: each kind of misconfiguration is reported."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from yarl import URL

from extauthz.config import load
from extauthz.core.errors import InvalidInput
from extauthz.demo.ports import free_port
from extauthz.doctor.finding import Finding
from extauthz.doctor.proxy import proxy, proxy_url
from tests.unit.doctor.test_contradictions import PLAIN

Answer = tuple[int, str]  # status and decision
Behaviour = Callable[[web.Request], Answer]
SETTINGS = load(PLAIN, None)


def right(request: web.Request) -> Answer:
    """Answers as a correct proxy does."""
    if "%2e" in request.raw_path:
        return 400, ""
    return 401, "invalid_credentials" if "authorization" in request.headers else "no_credentials"


def but(holds: Callable[[web.Request], bool], answer: Answer) -> Behaviour:
    """Answers correctly, except to the requests for which the condition holds."""
    return lambda request: answer if holds(request) else right(request)


def always(answer: Answer) -> Behaviour:
    return lambda _: answer


@asynccontextmanager
async def answering(behaviour: Behaviour) -> AsyncIterator[str]:
    """The address of a server that behaves so."""

    async def handle(request: web.Request) -> web.Response:
        status, decision = behaviour(request)
        return web.Response(status=status, headers={"x-extauthz-decision": decision} if decision else {})

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/api/xa_live_secret?key=secret"
    finally:
        await runner.cleanup()


async def seen(behaviour: Behaviour) -> dict[str, Finding]:
    async with answering(behaviour) as url:
        findings = await proxy(SETTINGS, proxy_url(url))
    assert not any("secret" in finding.detail for finding in findings)
    return {finding.check: finding for finding in findings}


async def test_a_proxy_in_order() -> None:
    findings = await seen(right)
    assert findings.keys() == {"proxy reachable", "proxy key", "proxy headers", "proxy paths"}
    assert all(finding.ok and not finding.remedy for finding in findings.values())


def has(name: str) -> Callable[[web.Request], bool]:
    return lambda request: name in request.headers


@pytest.mark.parametrize(
    ("behaviour", "check", "says"),
    [
        (always((200, "")), "proxy reachable", "extauthz was not asked (200)"),
        (always((302, "")), "proxy reachable", "extauthz was not asked (302)"),
        (always((401, "")), "proxy reachable", "its headers do not pass"),
        (always((404, "")), "proxy reachable", "answers 404"),
        (always((503, "authentication_unavailable")), "proxy reachable", "no answer from extauthz"),
        (always((502, "")), "proxy reachable", "no answer from extauthz"),
        (always((403, "bad_proxy_request")), "proxy reachable", "does not tell extauthz what is asked"),
        (but(has("authorization"), (200, "allow")), "proxy key", "an invented key is let through"),
        (but(has("authorization"), (401, "no_credentials")), "proxy key", "does not arrive"),
        (but(has("x-organization-id"), (200, "")), "proxy headers", "is let through"),
        (but(has("x-forwarded-uri"), (200, "allow")), "proxy headers", "is let through"),
        (but(has("x-original-method"), (403, "route_not_allowed")), "proxy headers", "reach extauthz"),
        (but(lambda request: "%2e" in request.raw_path, (200, "allow")), "proxy paths", "%2e%2e"),
    ],
)
async def test_a_proxy_that_is_set_up_wrong(behaviour: Behaviour, check: str, says: str) -> None:
    """One check fails, with advice; the others are unchanged."""
    findings = await seen(behaviour)
    assert [finding.check for finding in findings.values() if not finding.ok] == [check]
    assert says in findings[check].detail
    assert findings[check].remedy


async def test_address_with_a_remark() -> None:
    """For a public route, or a path without a route, a remark names a better address."""
    public = await seen(always((200, "allow")))
    assert public.keys() == {"proxy reachable"}
    assert (public["proxy reachable"].ok, "needs a key" in public["proxy reachable"].remedy) == (True, True)
    nowhere = (await seen(always((403, "route_not_allowed"))))["proxy reachable"]
    assert (nowhere.ok, "a route has" in nowhere.remedy) == (True, True)


async def test_unreachable_proxy() -> None:
    (finding,) = await proxy(SETTINGS, URL(f"http://127.0.0.1:{free_port()}/"))
    assert not finding.ok
    assert finding.detail.endswith(": Connection refused")


@pytest.mark.parametrize("text", ["127.0.0.1:80", "ftp://host/", "http://", "http://user:secret@host/", "http://[::1"])
def test_invalid_address(text: str) -> None:
    """It is rejected without being repeated, since it may hold a password."""
    with pytest.raises(InvalidInput, match="--proxy must be") as refused:
        proxy_url(text)
    assert "secret" not in str(refused.value)
