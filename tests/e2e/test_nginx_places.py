"""Every protocol of an upstream in every place of the configuration: the same holds in all of them."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from extauthz.demo.folders import temporary_folder
from tests.e2e.nginx_blocks import Running, running
from tests.e2e.nginx_judge import PATH, UNDERSCORES_PASS, Probe, judge
from tests.e2e.site import Customer, Site
from tests.servers.distribution import distribution_server

# The line that hands on, what must stand beside it, and a line of the same kind that makes others vanish.
PASSES = {
    "proxy": ("proxy_pass http://app;", "", "proxy_set_header X-Own 1;"),
    "fastcgi": ("fastcgi_pass php;", "include fastcgi_params;", "fastcgi_param OWN 1;"),
    "uwsgi": ("uwsgi_pass wsgi;", "include uwsgi_params;", "uwsgi_param OWN 1;"),
    "scgi": ("scgi_pass scgi;", "include scgi_params;", "scgi_param OWN 1;"),
    "grpc": ("grpc_pass grpc://grpc;", "grpc_set_header Host $host;", "grpc_set_header X-Own 1;"),
}
PLACES = {
    "prefix": "location /api/ {{ include extauthz.conf; {beside} {hands} }}",
    "regex": "location ~ ^/api/ {{ include extauthz.conf; {beside} {hands} }}",
    "exact": "location = /api/v1/customers/42 {{ include extauthz.conf; {beside} {own} {hands} }}",
    "below lines of the server": "{own} location /api/ {{ include extauthz.conf; {beside} {hands} }}",
    "nested": "location / {{ include extauthz.conf; {beside} {hands} "
    "location /api/ {{ include extauthz.conf; {beside} {own} {hands} }} }}",
    "nested twice": "location /api/ {{ include extauthz.conf; location /api/v1/ {{ include extauthz.conf; {own} "
    "location ~ customers {{ include extauthz.conf; {beside} {hands} }} }} }}",
    "if": "location /api/ {{ include extauthz.conf; {beside} if ($request_method) {{ {hands} }} {hands} }}",
    "try_files": "location /api/ {{ include extauthz.conf; try_files $uri @app; }} "
    "location @app {{ include extauthz_checked.conf; {beside} {own} {hands} }}",
    "try_files to a path": "location /api/ {{ include extauthz.conf; try_files $uri /inner/; }} "
    "location /inner/ {{ internal; include extauthz_checked.conf; {beside} {hands} }}",
    "error_page": "location /api/ {{ include extauthz.conf; error_page 502 = @app; proxy_pass http://dead; }} "
    "location @app {{ include extauthz_checked.conf; {beside} {hands} }}",
    "error_page to a path": "location /api/ {{ include extauthz.conf; error_page 404 = /inner/; root html; }} "
    "location /inner/ {{ internal; include extauthz_checked.conf; {beside} {hands} }}",
    "limit_except": "location /api/ {{ include extauthz.conf; {beside} {hands} limit_except GET {{ deny all; }} }}",
}
CASES = [*product(PASSES, PLACES)]


@pytest.fixture(scope="module", params=["wheel", "distribution"])
def nginx(site: Site, request: pytest.FixtureRequest) -> Iterator[Running]:
    """All cases, with `underscores_in_headers on`."""
    program: Path | None = distribution_server("nginx") if request.param == "distribution" else None
    blocks = []
    for protocol, place in CASES:
        hands, beside, own = PASSES[protocol]
        blocks.append(PLACES[place].format(hands=hands, beside=beside, own=own))
    with (
        temporary_folder("extauthz test ") as folder,
        running(site, folder, blocks, program=program, changes=UNDERSCORES_PASS) as nginx,
    ):
        yield nginx


@pytest.mark.parametrize("protocol", PASSES)
def test_each_place(site: Site, nginx: Running, customer: Customer, protocol: str) -> None:
    """No forged identity, no credential, and one check, for every directive that leads to the upstream."""
    for number, (each, place) in enumerate(CASES):
        if each == protocol:
            try:
                judge(site, nginx, number, customer, Probe(PATH))
            except AssertionError as error:
                raise AssertionError(place) from error
