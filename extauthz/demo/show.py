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

from rich.console import Console

from extauthz.demo.embedded import ENV_FILE, write_env
from extauthz.demo.folders import temporary_folder
from extauthz.demo.office import Keys, furnish
from extauthz.demo.ports import LOOPBACK
from extauthz.demo.stack import ADMIN, Stack
from extauthz.demo.tour import Visit, curl_lines, limits_of, stops, visits

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last when the terminal is closed
WIDTH = 160  # columns where there is no terminal to ask


def show(*, once: bool) -> bool:
    """The whole demo; whether every answer of the tour was as expected. Nothing of it is left at the end."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    errors = Console(stderr=True)
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    try:
        with temporary_folder("extauthz-demo-") as folder, errors.status("starting") as status:
            began = time.monotonic()

            def told(what: str) -> None:
                status.update(what)
                if not errors.is_terminal:
                    errors.print(what)

            with Stack(folder, told=told) as stack:
                keys = asyncio.run(furnish(stack.settings))
                errors.print(f"everything is up after {time.monotonic() - began:.1f} s")
                told("waiting for the short-lived key to expire")
                time.sleep(max(0.0, (keys.expired_at - datetime.now(UTC)).total_seconds()))
                told("touring")
                seen = list(visits(stops(keys), stack.proxies))
                status.stop()
                for line, right in _lines(seen):
                    console.print(line, style=None if right else "red", highlight=False, markup=False)
                fine = all(visit.as_expected for visit in seen)
                console.print(
                    f"{len(seen)} answers, all as expected" if fine else "some answers differed from what was expected",
                    style="green" if fine else "red",
                )
                if not once:
                    _stay(console, stack, keys)
                told("stopping everything")
            return fine
    except KeyboardInterrupt:
        errors.print("everything is stopped")
        return True


def _interrupt(*_: object) -> None:
    """The first signal ends the demo in order; further ones must not end the order."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _stay(console: Console, stack: Stack, keys: Keys) -> None:
    file = stack.folder / ENV_FILE
    write_env(file, {**stack.environ, "KEY": keys.team})
    lines = [
        "",
        f"Acme has the plan team ({limits_of('team')}). Try it in another shell:",
        "",
        f". {shlex.quote(str(file))}",
        *curl_lines(stack.proxies),
        "",
        f"{_command()} orgs list",
        f"{_command()} usage Acme",
        f"curl http://{LOOPBACK}:{stack.ports[ADMIN]}/metrics",
        "",
        "Ctrl-C ends everything.",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    signal.pause()


def _command() -> str:
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
