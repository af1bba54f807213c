"""An nginx that asks by `X-Original-URL` alone and passes a client's headers on, as ingress-nginx does."""

import asyncio

import pytest

from extauthz.core.routes import Route
from extauthz.demo.folders import temporary_folder
from extauthz.demo.ports import free_port
from extauthz.demo.proxies import Nginx
from tests.servers.raw_http import ask
from tests.unit.service.fakes import open_house
from tests.unit.transports.check_listener import Door

ROUTES = (
    Route("/public/**", public=True),
    Route("/hosty/**", public=True),
    Route("/hosty/**", host="admin.example.org", resource="vault"),
    Route("/**", resource="api"),
)
CONFIGURATION = """
error_log stderr; pid nginx.pid; events {}
http {
    access_log off; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server { listen 127.0.0.1:UPSTREAM; return 200 "upstream"; }
    server {
        listen 127.0.0.1:FRONT;
        location / {
            auth_request /_check;
            proxy_pass http://127.0.0.1:UPSTREAM;
        }
        location = /_check {
            internal;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-Original-URL $scheme://$http_host$request_uri;
            proxy_set_header X-Original-Method $request_method;
            proxy_pass http://127.0.0.1:DOOR;
        }
    }
}
"""
ASKED = [
    ("/public/x", "public.example.org", "", 200),
    ("/api/v1/customers/1", "public.example.org", "", 401),
    ("/api/v1/customers/1", "public.example.org", "X-Original-URI: /public/x", 403),
    ("/api/v1/customers/1", "public.example.org", "X-Original-URI:", 403),
    ("/api/v1/customers/1", "public.example.org", "X-Original-URL: http://public.example.org/public/x", 401),
    ("/api/v1/customers/1", "public.example.org", "X_Original_URL: http://public.example.org/public/x", 401),
    ("/api/v1/customers/1", "public.example.org", "X-Original-Host: public.example.org", 403),
    ("/api/v1/customers/1", "public.example.org", "X-Original-Method: OPTIONS", 401),
    ("/api/v1/customers/1?http://public.example.org/public/x", "public.example.org", "", 401),
    ("/hosty/x", "public.example.org", "", 200),
    ("/hosty/x", "admin.example.org", "", 401),
    ("/hosty/x", "ADMIN.example.org.:443", "", 401),
    ("/hosty/x", "u@admin.example.org", "", 403),
    ("/hosty/x", "admin.example.org,x", "", 403),
    ("/hosty/x", "admin.example.org", "X-Original-Host: public.example.org", 403),
    ("/api/v1/customers/1", "public.example.org?x=", "", 403),
    ("/api/v1/customers/1", "public.example.org#", "", 403),
]


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "full path"])
async def test_a_client_does_not_choose_what_is_checked(fast_path: bool) -> None:
    """Path, host and method are those of the request to nginx, or the request is refused."""
    async with open_house(routes=ROUTES) as fake_service:
        door = Door(fake_service, fast_path=fast_path, question="url")
        ports = {"UPSTREAM": free_port(), "FRONT": free_port(), "DOOR": door.sockets["nginx"].getsockname()[1]}
        text = CONFIGURATION
        for name, port in ports.items():
            text = text.replace(name, str(port))
        async with door.open():
            with temporary_folder("extauthz test ") as folder:
                nginx = Nginx(folder / "nginx", {"nginx.conf": text}, port=ports["FRONT"])
                await asyncio.to_thread(nginx.start)
                try:
                    said = []
                    for path, host, more, _ in ASKED:
                        line = f"{more}\r\n" if more else ""
                        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{line}Connection: close\r\n\r\n"
                        status = (await ask(ports["FRONT"], head.encode())).status
                        said.append(403 if status == 400 else status)  # newer versions refuse some hosts themselves
                finally:
                    await asyncio.to_thread(nginx.stop)
        assert said == [status for *_, status in ASKED]
