"""The blocks of nginx/README.md as users copy them, on nginx from the wheel and from the distribution."""

import re
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from extauthz.demo.folders import temporary_folder
from tests.e2e.client import Answer, ask, bearer
from tests.e2e.nginx_blocks import Block, Running, readme_blocks, running
from tests.e2e.nginx_judge import PATH, UNDERSCORES_PASS, Probe, Unprotected, judge
from tests.e2e.site import Customer, Site
from tests.servers.distribution import distribution_server

PROTOCOLS = {"fastcgi_pass": "fastcgi", "uwsgi_pass": "uwsgi", "scgi_pass": "scgi"}  # else "http"
# Blocks that need another request than the usual one, or more of them, by words that only they have.
PROBES = {
    "try_files $uri @app": [Probe(), Probe("/api/v1/customers/..%20")],
    "@standby": [Probe(reaches=1)],
    "X-Priority": [Probe(), Probe("/api/v1/reports/7")],
    "$http_x_beta": [Probe(), Probe(headers={"X-Beta": "1"})],
    "mirror /mirror": [Probe(reaches=2)],
    "location /files/": [Probe(), Probe(f"{PATH}?X-Accel-Redirect=/files/a", reaches=2)],
    "index index.php": [Probe("/api/v1/customers/")],
    "/index.php$is_args": [Probe(f"{PATH}?a=b")],
    "/healthz": [Probe("/healthz", public=True)],
}
BLOCKS = readme_blocks()


def name(block: Block) -> str:
    """How tests call it."""
    return f"line {block.line}" + (" wrong" if block.wrong else "")


@pytest.fixture(scope="module", params=["wheel", "distribution"])
def nginx(site: Site, request: pytest.FixtureRequest) -> Iterator[Running]:
    """All blocks, with `underscores_in_headers on`, so that no default helps; the first `app` of a standby is away."""
    program: Path | None = distribution_server("nginx") if request.param == "distribution" else None
    texts = [block.text.replace("//app", "//dead", 1) if "@standby" in block.text else block.text for block in BLOCKS]
    with (
        temporary_folder("extauthz test ") as folder,
        running(site, folder, texts, program=program, changes=UNDERSCORES_PASS) as nginx,
    ):
        yield nginx


def probes(block: Block) -> list[Probe]:
    """The requests that test it."""
    return next((some for words, some in PROBES.items() if words in block.text), [Probe()])


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=map(name, BLOCKS))
def test_a_block_of_the_readme(site: Site, nginx: Running, customer: Customer, number: int) -> None:
    """Each block holds what the page promises of it; each that begins with `# wrong` does not."""
    block = BLOCKS[number]
    if "/my/usage" in block.text:
        answer: Answer = ask(nginx.proxy(number), "/my/usage", bearer(customer.key))
        assert (answer.status, answer.json["organization_id"]) == (200, customer.organization)
        return
    for probe in probes(block):
        with pytest.raises(Unprotected) if block.wrong else nullcontext():
            judge(site, nginx, number, customer, probe)
        protocol = next((name for words, name in PROTOCOLS.items() if words in block.text), "http")
        assert block.wrong or {seen.protocol for seen in nginx.behind.seen} == {protocol}
        assert "grpc_pass" not in block.text or nginx.behind.seen[0].values("Via") == ["HTTP/2.0"]


def test_a_cache_asks_each_time(nginx: Running, site: Site, customer: Customer) -> None:
    """The cached answer is the caller's own, and is given after a check alone."""
    number = next(number for number, block in enumerate(BLOCKS) if "proxy_cache" in block.text)
    path, other = f"{PATH}?cached", site.customer()
    nginx.behind.seen.clear()
    owners = []
    for who in (customer, customer, other, other):
        answer = ask(nginx.proxy(number), path, bearer(who.key))
        owners.append(dict(answer.json["pairs"])["X-Organization-Id"])
    assert owners == [customer.organization] * 2 + [other.organization] * 2
    assert len(nginx.behind.seen) == 2
    assert ask(nginx.proxy(number), path).status == 401


def test_the_line_that_proves_a_location(nginx: Running) -> None:
    """The README's `curl` prints a line for each protected location, and none where the check does not happen."""
    words = shlex.split(next(block.text for block in readme_blocks("sh") if "grep" in block.text))
    for number, block in enumerate(BLOCKS):
        path = urlsplit(next(word for word in words if word.startswith("http:"))).path
        if "index index.php" in block.text:
            path = path.removesuffix("42")
        head = "\n".join(f"{name}: {value}" for name, value in ask(nginx.proxy(number), path).headers)
        unchecked = "nothing is checked" in block.text or "everything is allowed" in block.text
        protects = "include extauthz.conf" in block.text and not unchecked
        assert bool(re.search(words[-1], head, re.IGNORECASE | re.MULTILINE)) == protects, f"line {block.line}: {head}"


def test_nginx_starts_without_a_warning(nginx: Running) -> None:
    """None of the shipped files causes one, at start or in service."""
    assert [line for line in nginx.log.splitlines() if "[warn]" in line or "[emerg]" in line] == []
