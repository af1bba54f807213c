"""What `extauthz demo` prints: progress, the table of the tour, lines to paste; then it waits for Ctrl-C."""

import asyncio
import signal
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from extauthz.demo.folders import temporary_folder
from extauthz.demo.office import furnish
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
                console.print(_table(seen))
                fine = all(visit.as_expected for visit in seen)
                console.print(
                    f"{len(seen)} answers, all as expected" if fine else "some answers differed from what was expected",
                    style="green" if fine else "red",
                )
                if not once:
                    _stay(console, stack, curl_lines(stack.proxies, keys))
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


def _stay(console: Console, stack: Stack, lines: Iterable[str]) -> None:
    console.print(f"\nAcme has the plan team ({limits_of('team')}). Try it:\n")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"\nmetrics: curl http://127.0.0.1:{stack.ports[ADMIN]}/metrics\nCtrl-C ends everything.", highlight=False
    )
    signal.pause()


def _table(seen: Iterable[Visit]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)  # fits into 80 columns
    table.add_column("request", overflow="fold", min_width=15)
    table.add_column("proxy", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("decision", no_wrap=True)
    table.add_column("why", overflow="fold", min_width=16)
    table.add_column("µs", justify="right", no_wrap=True)
    for visit in seen:
        reply = visit.reply
        table.add_row(
            visit.title,
            visit.proxy.name,
            str(reply.status),
            reply.decision,
            visit.why if visit.as_expected else f"{visit.why} (expected {visit.stop.expectation})",
            f"{reply.microseconds:,}",
            style=None if visit.as_expected else "red",
        )
    return table
