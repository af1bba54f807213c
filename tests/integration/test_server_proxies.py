"""Envoy and nginx as the demo and the tests run them, and how the shipped files get their ports."""

from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from extauthz.demo.folders import ServerFailed, temporary_folder
from extauthz.demo.ports import free_port
from extauthz.demo.process import family
from extauthz.demo.proxies import Envoy, Nginx, fill, proxy_files

ENVOY = """
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 10000}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: here
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: envoy here}}}]
"""
NGINX = """
error_log stderr;
pid nginx.pid;
events {}
http { access_log off; server { listen 127.0.0.1:8080; include extauthz.conf; } }
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder("extauthz test ") as path:
        yield path


def test_the_proxies_serve_their_filled_files(folder: Path) -> None:
    """Envoy and nginx run with the ports that were filled in, and leave no process when stopped."""
    ports = {10000: free_port(), 9901: free_port(), 8080: free_port()}
    envoy = Envoy(folder / "envoy", fill(ENVOY, {port: ports[port] for port in (10000, 9901)}), port=ports[10000])
    files = {"nginx.conf": fill(NGINX, {8080: ports[8080]}), "extauthz.conf": "return 200 'nginx here';"}
    nginx = Nginx(folder / "nginx", files, port=ports[8080])
    with envoy, nginx:
        members = family(envoy.pid) + family(nginx.pid)
        for server in (envoy, nginx):
            with urlopen(f"http://127.0.0.1:{server.port}/") as answer:
                assert answer.read().decode() == f"{server.name} here"
    assert not [pid for pid in members if Path(f"/proc/{pid}").exists()]


def test_ports_are_filled_in_all_at_once() -> None:
    """Each default port becomes its own real one, in both notations; one that is not in the file is an error."""
    text = "server 127.0.0.1:9001; { address: 127.0.0.1, port_value: 9002 } 127.0.0.1:90011"
    assert fill(text, {9001: 9002, 9002: 7}) == (
        "server 127.0.0.1:9002; { address: 127.0.0.1, port_value: 7 } 127.0.0.1:90011"
    )
    with pytest.raises(ServerFailed, match="no port 9003"):
        fill(text, {9003: 1})
    assert (proxy_files() / "nginx" / "nginx.conf").is_file()
