"""A host that is missing, repeated or ambiguous, on the wire of every dialect: refused where routes name hosts."""

from collections.abc import Sequence

import pytest

from extauthz.core.routes import Route
from extauthz.transports.http.dialects.nginx import NginxQuestion
from tests.unit.service.fakes import ROUTES, open_house
from tests.unit.transports.check_listener import Door, decisions

HOSTS = (
    Route("/hosty/**", resource="customer"),
    Route("/hosty/**", host="admin.example.org", resource="vault"),
    Route("/v6/**", public=True),
    Route("/v6/**", host="[2001:DB8:0::1]", resource="vault"),
    Route("/v4/**", public=True),
    Route("/v4/**", host="127.0.0.1", resource="vault"),
    Route("/public/**", public=True),
)
ADMIN = [
    "admin.example.org",
    "ADMIN.example.org",
    "admin.example.org.",
    "admin.example.org:443",
    "Admin.Example.Org.:1",
]
AMBIGUOUS = [
    *["", "admin.example.org:abc", "admin.example.org:80:80", "u@admin.example.org", "[admin.example.org]"],
    *["admin.example.org..", "admin.example.org,x", "admin.example.org, admin.example.org", "admin..example.org"],
    *["admin.example.org:", "admin.example%2eorg", "[2001:db8:0:0:0:0:0:1]", "[2001:0db8::1]", "2001:db8::1"],
    *["[::ffff:127.0.0.1]", "127.1", "0x7f.1", "2130706433", "127.0.0.01"],
]
DOORS = ("envoy", "nginx", "nginx by url", "forward")

pytestmark = pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "full path"])


def asked(door: str, path: str, hosts: Sequence[str]) -> bytes:
    """A question for a path at none, one or several hosts, without a key."""
    name, own, lines = {
        "envoy": ("Host", "", []),
        "nginx": ("X-Original-Host", "x", ["X-Original-Method: GET", f"X-Original-URI: {path}"]),
        "nginx by url": ("", "x", ["X-Original-Method: GET", *(f"X-Original-URL: http://{h}{path}" for h in hosts)]),
        "forward": ("X-Forwarded-Host", "x", ["X-Forwarded-Method: GET", f"X-Forwarded-Uri: {path}"]),
    }[door]
    if own:
        lines.insert(0, f"Host: {own}")
    if name:
        lines += [f"{name}: {host}" for host in hosts]
    return "\r\n".join([f"GET {path if door == 'envoy' else '/'} HTTP/1.1", *lines, "", ""]).encode()


@pytest.mark.parametrize("door_name", DOORS)
async def test_an_ambiguous_host_is_never_judged_by_a_wider_route(door_name: str, fast_path: bool) -> None:
    """It is denied on named, public and unknown paths alike; the path is judged before it."""
    by: NginxQuestion = "url" if door_name == "nginx by url" else "uri"
    listener = door_name.partition(" ")[0]
    async with (
        open_house(routes=HOSTS) as fake_service,
        Door(fake_service, fast_path=fast_path, question=by).open() as door,
    ):

        async def said(path: str, *hosts: str) -> list[str]:
            async with door.client(listener) as client:
                return decisions(await client.ask(asked(door_name, path, hosts)))

        for host in ADMIN:
            assert await said("/hosty/x", host) == ["no_credentials"]
        for host in AMBIGUOUS:
            assert await said("/public/x", host) == ["host_ambiguous"], host
        for path in ("/hosty/x", "/v6/x", "/v4/x", "/nowhere"):
            assert await said(path, AMBIGUOUS[0]) == ["host_ambiguous"], path
        assert await said("/hosty//x", AMBIGUOUS[0]) == ["path_ambiguous"]
        # At envoy HTTP itself wants one Host, and in a URL the path would be missing, or repeated, too.
        unreadable = "host_ambiguous" if door_name in ("nginx", "forward") else "bad_proxy_request"
        assert await said("/public/x") == [unreadable]
        assert await said("/public/x", "public.example.org", "public.example.org") == [unreadable]
        assert await said("/public/x", "public.example.org") == ["allow"]
        assert await said("/v6/x", "[2001:DB8::1]:443") == ["no_credentials"]
        assert await said("/v6/x", "[2001:db8::2]") == ["allow"]
        assert await said("/v4/x", "127.0.0.1:80") == ["no_credentials"]


@pytest.mark.parametrize("door_name", DOORS)
async def test_without_hosts_in_routes_the_host_is_unused(door_name: str, fast_path: bool) -> None:
    """Where no route names one, a request is judged by its path, whatever stands for its host."""
    by: NginxQuestion = "url" if door_name == "nginx by url" else "uri"
    async with (
        open_house(routes=ROUTES) as fake_service,
        Door(fake_service, fast_path=fast_path, question=by).open() as door,
        door.client(door_name.partition(" ")[0]) as client,
    ):
        for host in (*ADMIN, *AMBIGUOUS):
            assert decisions(await client.ask(asked(door_name, "/public/x", [host]))) == ["allow"], host


async def test_an_old_request_without_a_host(fast_path: bool) -> None:
    """HTTP/1.0 needs no Host; a route with a host does."""
    async with (
        open_house(routes=HOSTS) as fake_service,
        Door(fake_service, fast_path=fast_path).open() as door,
        door.client() as client,
    ):
        assert decisions(await client.ask(b"GET /public/x HTTP/1.0\r\n\r\n")) == ["host_ambiguous"]
