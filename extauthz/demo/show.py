"""What `extauthz demo` prints: progress, the table of the tour, lines to paste; then it waits for Ctrl-C."""

import asyncio
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from extauthz.demo.embedded import ENV_FILE, write_env
from extauthz.demo.management_client import Keys, furnish
from extauthz.demo.ports import LOOPBACK
from extauthz.demo.session import Session, session
from extauthz.demo.stack import ADMIN, Stack
from extauthz.demo.tour import Visit, curl_lines, limits_of, stops, visits


def show(*, once: bool) -> bool:
    """The whole demo; whether every answer of the tour was as expected. Nothing of it is left at the end."""
    fine = True
    with session("extauthz-demo-") as terminal, Stack(terminal.folder, told=terminal.told) as stack:
        keys = asyncio.run(furnish(stack.settings))
        terminal.everything_is_up()
        terminal.told("waiting for the short-lived key to expire")
        time.sleep(max(0.0, (keys.expired_at - datetime.now(UTC)).total_seconds()))
        terminal.told("touring")
        seen = list(visits(stops(keys), stack.proxies))
        terminal.done()
        for line, right in _lines(seen):
            terminal.print(line, style=None if right else "red")
        fine = all(visit.as_expected for visit in seen)
        terminal.print(
            f"{len(seen)} answers, all as expected" if fine else "some answers differed from what was expected",
            style="green" if fine else "red",
        )
        if not once:
            _stay(terminal, stack, keys)
        terminal.told("stopping everything")
    return fine


def _stay(terminal: Session, stack: Stack, keys: Keys) -> None:
    file = stack.folder / ENV_FILE
    write_env(file, {**stack.environ, "KEY": keys.team})
    lines = [
        "",
        f"Acme has the plan team ({limits_of('team')}). Try it in another shell:",
        "",
        f". {shlex.quote(str(file))}",
        *curl_lines(stack.proxies),
        "",
        f"{command()} orgs list",
        f"{command()} usage Acme",
        f"{command()} tail   # decisions as they are made, until Ctrl-C",
        "",
        f"Metrics are at http://{LOOPBACK}:{stack.ports[ADMIN]}/metrics; `make monitor` shows them in Prometheus.",
        "Ctrl-C ends everything.",
    ]
    for line in lines:
        terminal.print(line)
    signal.pause()


def command() -> str:
    """How another shell in the same folder calls the command that belongs to this program."""
    beside = Path(sys.executable).with_name("extauthz")
    if not beside.exists():
        return f"{shlex.quote(sys.executable)} -m extauthz"
    if shutil.which("extauthz") == str(beside):
        return "extauthz"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


def _lines(seen: Iterable[Visit]) -> Iterator[tuple[str, bool]]:
    """The tour in lines of at most 80 columns: each request, then what each proxy answered; whether that is right."""
    for title, group in groupby(seen, key=lambda visit: visit.stop.title):
        yield title, True
        for visit in group:
            reply = visit.reply
            cells = f"  {visit.proxy.name:<5} {reply.status} {reply.decision:<20} {visit.why:<36}"
            yield f"{cells} {reply.microseconds:>7,} µs", visit.as_expected
            if not visit.as_expected:
                yield f"        expected: {visit.stop.expectation}", False
