"""`extauthz demo` as a newcomer runs it: the tour, the end, and nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from extauthz.demo.folders import make_folder, temporary_folder
from extauthz.demo.office import Keys
from extauthz.demo.ports import LOOPBACK
from extauthz.demo.process import family
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
from tests.e2e.site import Customer, Site

TITLES = [stop.title for stop in stops(Keys("", "", "", "", "", "", "", "", datetime.now(UTC)))]
TERMINAL = 80  # columns
MEMBERS_MIN = 12  # ourselves, six servers with a keeper each, and what PostgreSQL and nginx start


@pytest.fixture(scope="module", autouse=True)
def usual_ports_taken() -> Iterator[None]:
    """Each demo must find ports of its own, so that several can start at once."""
    with ExitStack() as stack:
        for port in (ENVOY, ENVOY_ADMIN, NGINX, UPSTREAM, ADMIN, ENVOY_DOOR, NGINX_DOOR, FORWARD_DOOR, USAGE):
            with suppress(OSError):  # somebody else has it
                stack.enter_context(closing(socket.create_server((LOOPBACK, port))))
        yield


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a space in its name."""
    with temporary_folder("a new folder ") as path:
        yield path


class Demo:
    """A running `extauthz demo` that keeps its temporary files in `folder`; `output` is what it has printed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.output = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "extauthz", "demo", *arguments],
            cwd=folder,
            env=os.environ | {"TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # where a test has failed; its servers end with it
        self._process.communicate()

    def read_until(self, words: str) -> None:
        """Returns when the words were printed."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            if words in line:
                return
        raise AssertionError(f"it ended without {words!r}:\n{self.output}")

    def members(self) -> set[tuple[int, str, str]]:
        """Every process of it, as in `alive`."""
        return {member for pid in family(self._process.pid) for member in alive(pid)}

    def interrupt(self) -> None:
        """What Ctrl-C in a terminal does."""
        os.killpg(self._process.pid, signal.SIGINT)

    def check_end(self, members: set[tuple[int, str, str]]) -> None:
        """It ends by itself, well, and no process and no file of it stays."""
        assert self._process.stdout is not None
        self.output += self._process.stdout.read()  # not `communicate`, which passes over what was read ahead
        self._process.wait(timeout=30)
        assert self._process.returncode == 0, self.output
        assert {member for pid, *_ in members for member in alive(pid)} & members == set()
        assert [name for name in map(working_folder, all_processes()) if name.startswith(str(self.folder))] == []
        assert list(self.folder.iterdir()) == []


def all_processes() -> list[int]:
    """The numbers of all processes there are."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def working_folder(pid: int) -> str:
    """Where a process works, be the folder deleted; empty where that is not for us to know."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def alive(pid: int) -> set[tuple[int, str, str]]:
    """The process with its name and the moment of its start; nothing where it has ended."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return set()
    fields = rest.split()
    return set() if fields[0] in "ZX" else {(pid, name, fields[19])}


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
    """The status that a `curl` line of the demo gets. A shell takes it apart; the request is ours."""
    _, _, url, *options = shell(settings, f"printf '%s\\n' {line}").splitlines()
    address = urlsplit(url)
    headers = [option.split(": ", 1) for option in options if option != "-H"]
    assert address.port is not None
    return ask(Proxy("pasted", address.port), address.path, dict(headers)).status


def test_a_wrong_answer_is_noticed(site: Site, customer: Customer) -> None:
    """A tour whose status, decision or anything else differs from what was expected says so."""
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
