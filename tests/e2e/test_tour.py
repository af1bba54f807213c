"""`extauthz demo` as a new user runs it: the tour, the end, and nothing left behind."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from extauthz.demo.folders import make_folder, temporary_folder
from extauthz.demo.management_client import Keys
from extauthz.demo.ports import LOOPBACK
from extauthz.demo.stack import (
    ADMIN,
    ENVOY,
    ENVOY_ADMIN,
    ENVOY_DOOR,
    FORWARD_DOOR,
    NGINX,
    NGINX_DOOR,
    UPSTREAM,
    USAGE,
    Proxy,
)
from extauthz.demo.tour import Stop, stops, visits
from tests.e2e.client import ask, bearer
from tests.e2e.demo import Demo
from tests.e2e.site import Customer, Site

TITLES = [stop.title for stop in stops(Keys("", "", "", "", "", "", "", "", datetime.now(UTC)))]
TERMINAL = 80  # columns
MEMBERS_MIN = 12  # ourselves, six servers with a keeper each, and what PostgreSQL and nginx start


@pytest.fixture(scope="module", autouse=True)
def usual_ports_taken() -> Iterator[None]:
    """Each demo must find ports of its own, so that several can start at once."""
    with ExitStack() as stack:
        for port in (ENVOY, ENVOY_ADMIN, NGINX, UPSTREAM, ADMIN, ENVOY_DOOR, NGINX_DOOR, FORWARD_DOOR, USAGE):
            with suppress(OSError):  # another process has it
                stack.enter_context(closing(socket.create_server((LOOPBACK, port))))
        yield


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a space in its name."""
    with temporary_folder("a new folder ") as path:
        yield path


def test_once(folder: Path) -> None:
    """`--once`: one row for each request and proxy, as expected, exit status 0, nothing left.

    Two that start at the same moment do not meet: each has ports of its own.
    """
    places = [folder / name for name in ("one place", "another")]
    for place in places:
        make_folder(place)
    with Demo(places[0], "--once") as demo, Demo(places[1], "--once") as other:
        members = []
        for each in (demo, other):
            each.read_until("touring")
            members.append(each.members())  # the second one may be at its end by now
        for each, its_members in zip((demo, other), members, strict=True):
            each.check_end(its_members)
    assert len(members[0]) > MEMBERS_MIN
    for each in (demo, other):
        rows = each.output.splitlines()
        for title in TITLES:
            below = rows.index(title) + 1
            assert [row.split()[0] for row in rows[below : below + 2]] == ["envoy", "nginx"], title
        assert [row for row in rows[rows.index(TITLES[0]) :] if len(row) > TERMINAL] == []
        assert f"{2 * len(TITLES)} answers, all as expected" in rows


def test_until_interrupted(folder: Path) -> None:
    """Without `--once` it stays, with lines to paste that work, until Ctrl-C: exit status 0, nothing left."""
    with Demo(folder) as demo:
        demo.read_until("Ctrl-C ends everything")
        members = demo.members()
        lines = demo.output[demo.output.index("Try it in another shell:") :].splitlines()[1:-1]
        (settings,) = (line for line in lines if line.startswith(". "))
        sent = [line for line in lines if line.startswith("curl -i ")]
        assert len(sent) == 6
        for line in sent:
            status = paste(settings, line)
            assert status == 401 if "# no key" in line else status in {200, 429}
        commands = [line for line in lines if " orgs " in line or " usage " in line]
        assert len(commands) == 2
        assert "Acme" in "".join(shell(settings, line) for line in commands)
        demo.interrupt()
        demo.check_end(members)


@pytest.mark.parametrize("moment", [pytest.param("starting PostgreSQL", marks=pytest.mark.deep), "starting extauthz"])
def test_interrupted_while_it_starts(folder: Path, moment: str) -> None:
    """Ctrl-C before everything is up ends what is: exit status 0, nothing left."""
    with Demo(folder) as demo:
        demo.read_until(moment)
        members = demo.members()
        demo.interrupt()
        demo.check_end(members)


def shell(settings: str, line: str) -> str:
    """What a line prints in a shell that has read the demo's settings."""
    done = subprocess.run(["sh", "-ec", f"{settings}\n{line}"], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def paste(settings: str, line: str) -> int:
    """The status that a `curl` line of the demo gets. The shell splits the line; the test sends the request."""
    _, _, url, *options = shell(settings, f"printf '%s\\n' {line}").splitlines()
    address = urlsplit(url)
    headers = [option.split(": ", 1) for option in options if option != "-H"]
    assert address.port is not None
    return ask(Proxy("pasted", address.port), address.path, dict(headers)).status


def test_a_wrong_answer_is_reported(site: Site, customer: Customer) -> None:
    """A tour whose status, decision or anything else differs from the expected one reports it."""
    headers = bearer(customer.key)
    right = Stop("right", (200,), "allow", headers=headers)
    wrong = [
        Stop("status", (401,), "allow", headers=headers),
        Stop("decision", (200,), "rate_limited", headers=headers),
        Stop("anything else", (200,), "allow", headers=headers, check=lambda reply: "authorization" in reply.seen),
        Stop("never refused", (429,), "rate_limited", headers=headers, until_refused=True),
    ]
    seen = list(visits([right, *wrong], site.stack.proxies))
    assert [visit.as_expected for visit in seen] == [True] * 2 + [False] * 2 * len(wrong)
