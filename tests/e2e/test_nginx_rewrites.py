"""Rewrites around the check: no request passes that extauthz did not allow."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from extauthz.demo.folders import temporary_folder
from tests.e2e.client import ask, bearer
from tests.e2e.nginx_blocks import Running, running
from tests.e2e.site import Customer, Site
from tests.servers.distribution import distribution_server

PATH = "/api/v1/customers/42"
# Each catches a check that it sees, by its name or because it is not for /api/; requests for /api/ stay as they are.
REWRITES = {
    "all but the API": "rewrite ^(?!/api/) /open/page{flag};",
    "an if of its own": "if ($uri !~ ^/api/) {{ rewrite ^ /open/page{flag}; }}",
    "in an if by the file": "if ($uri !~ /api/) {{ rewrite ^(.*)$ /index.php?q=$1{flag}; }}",
    "by its name": "rewrite _extauthz /open/page{flag};",
    "one segment": "rewrite ^/?[^/]+$ /open/page{flag};",
    "no rewrite but a return": "if ($uri !~ /api/) {{ return 200 page{flag}; }}",
    "into the API": "rewrite ^(?!/api/)(.*)$ /api/v1/customers/$1{flag};",
}
FLAGS = ("", " last", " break")
OPEN = "location / { include extauthz_upstream.conf; proxy_pass http://app; }"
ONE = f"location /api/ {{ include extauthz.conf; proxy_pass http://app; }} {OPEN}"
TWO = (
    'location /api/ { include extauthz.conf; try_files "" @api; } '
    f"location @api {{ include extauthz_checked.conf; proxy_pass http://app; }} {OPEN}"
)


@dataclass(frozen=True, slots=True)
class Case:
    """A rewrite above or below extauthz's file, before one or two locations."""

    title: str
    text: str
    below: bool
    two: bool

    @property
    def block(self) -> str:
        """The server."""
        include = "include extauthz_server.conf;"
        lines = [include, self.text] if self.below else [self.text, include]
        return "\n".join([*lines, TWO if self.two else ONE])

    @property
    def safe(self) -> bool:
        """Not so: one location, below a rewrite that hands the check to a location without extauthz, for good."""
        for_good = any(word in self.text for word in ("last", "break", "return"))
        return self.below or self.two or not for_good or "/api/v1" in self.text


CASES = [
    Case(
        f"{title}{flag}, {'below' if below else 'above'}, {'two' if two else 'one'}", text.format(flag=flag), below, two
    )
    for (title, text), flag, below, two in product(REWRITES.items(), FLAGS, (True, False), (True, False))
    if not (flag and "return" in text)
]


@pytest.fixture(scope="module", params=["wheel", "distribution"])
def nginx(site: Site, request: pytest.FixtureRequest) -> Iterator[Running]:
    """All cases, each in a server of its own."""
    program: Path | None = distribution_server("nginx") if request.param == "distribution" else None
    blocks = [case.block for case in CASES]
    with temporary_folder("extauthz test ") as folder, running(site, folder, blocks, program=program) as nginx:
        yield nginx


def test_a_rewrite_does_not_bypass_the_check(nginx: Running, customer: Customer) -> None:
    """Below the file a rewrite changes nothing; above it nothing passes without a key, except as the README says."""
    for number, case in enumerate(CASES):
        nginx.behind.seen.clear()
        answer = ask(nginx.proxy(number), PATH)
        if case.below:
            assert (answer.status, answer.decision) == (401, "no_credentials"), case
            assert ask(nginx.proxy(number), PATH, bearer(customer.key)).status == 200, case
        elif case.safe:
            assert answer.status in {401, 503}, (case, answer)
            assert [seen for seen in nginx.behind.seen if PATH in seen.text()] == [], case
        else:
            assert answer.status == 200, f"{case}: the README may promise more"
